"""Who has a key is answered; who has none learns how healthy the server is, and nothing else."""

import ssl

import pytest
import trustme
from pydantic import SecretStr

from tests.server.live import live
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.http.api_key import read_keys
from vimserve.server.http.server import http_server

KEY, OTHER = "correct-horse-battery", "staple-0123456789"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("api_key") / "keys"
    file.write_text(f"{KEY}\n\n  {OTHER}\n")
    return file


@pytest.fixture(scope="module")
def locked(serve_tiny, keys_file):
    with serve_tiny(api_key_file=keys_file) as client:
        yield client


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path):
    (tmp_path / "keys").write_text(f"{KEY}\n{OTHER}\n", encoding="utf-8-sig")
    assert read_keys(ServerConfig(api_key_file=tmp_path / "keys")) == [KEY, OTHER]


CLOSED = [
    ("POST", "/v1/classify"),
    ("POST", "/v1/segment"),
    ("POST", "/v1/compare"),
    ("GET", "/v1/models"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("GET", "/healthz/"),
    ("POST", "/healthz"),
]
# uvicorn takes the last one for a host and the path /.
CLOSED_PLAIN = [
    ("POST", "/models/tiny"),
    ("GET", "/info"),
    ("GET", "/v2"),
    ("POST", "/v2/models/tiny/infer"),
    ("POST", "//healthz"),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize(
    "headers",
    [{}, bearer("wrong-key-0123456789"), {"Authorization": "Bearer"},
     {"Authorization": f"Basic {KEY}"}, bearer(KEY[:-1]), bearer(f"{KEY}x"),
     bearer("schlüssel".encode().decode("latin-1"))],
    ids=["none", "wrong", "empty", "basic", "shorter", "longer", "not ascii"],
)  # fmt: skip
def test_without_a_key_there_is_no_answer(locked, method, path, headers):
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = locked.request(method, path, headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"].endswith("unauthorized")
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert KEY not in answer.text


@pytest.mark.parametrize(("method", "path"), CLOSED_PLAIN)
def test_other_protocols_say_so_in_their_own_form(locked, method, path):
    answer = locked.request(method, path, headers=bearer("wrong-key-0123456789"))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json() == {"error": "this server does not accept the API key"}


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/health", "/v2/health/live", "/v2/health/ready"]
)
def test_health_needs_no_key(locked, path):
    assert locked.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers", [bearer(KEY), bearer(OTHER), {"authorization": f"bearer {KEY}"}]
)
def test_with_a_key_of_the_file_everything_is_there(locked, headers, picture, encode):
    for path in ("/v1/models", "/metrics", "/openapi.json"):
        assert locked.get(path, headers=headers).status_code == 200
    data = encode(picture(64, 64))
    assert locked.post("/v1/classify", content=data, headers=headers).status_code == 200


def test_a_refusal_does_not_wait_for_the_body(locked, connect):
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    assert connect(locked, head).recv(1000).startswith(b"HTTP/1.1 401")


def test_metrics_can_be_public(serve, keys_file):
    client, _ = serve(api_key_file=keys_file, public_metrics=True)
    assert client.get("/metrics").status_code == 200
    assert client.get("/v1/models").status_code == 401


def test_the_key_of_the_variable(serve, monkeypatch):
    monkeypatch.setenv("VIMSERVE_API_KEY", KEY)
    client, _ = serve()
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers=bearer(KEY)).status_code == 200


def test_an_empty_variable_is_no_key(monkeypatch):
    for name in ("API_KEY", "API_KEY_FILE"):
        monkeypatch.setenv(f"VIMSERVE_{name}", "")
    assert read_keys(ServerConfig()) == []


@pytest.mark.parametrize(
    "key", ["short", "with a space in it", "ends-with-a-tab\t", "schlüssel" * 3]
)
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key):
    with pytest.raises(ValueError, match="at least 16 characters") as caught:
        read_keys(ServerConfig(api_key=key))
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [("\n \n", "no key in it"), (None, "No such file")]
)
def test_a_file_without_keys(tmp_path, content, message):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_keys(ServerConfig(api_key_file=file))


def test_a_configuration_does_not_show_the_key():
    assert KEY not in repr(ServerConfig(api_key=SecretStr(KEY)))


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certificate(authority, tmp_path):
    issued = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return chain, key


def test_https(tiny, spec, certificate, authority, picture, encode):
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    app = create_app(ServerConfig(api_key=SecretStr(KEY)), [spec])
    with live(app, certificate=certificate, verify=trusting, headers=bearer(KEY)) as client:
        assert client.base_url.scheme == "https"
        assert client.post("/v1/classify", content=encode(picture(64, 64))).status_code == 200


def test_a_certificate_that_cannot_be_used(tiny, spec, certificate, tmp_path):
    _, key = certificate
    app = create_app(ServerConfig(), [spec])
    for pair in ((tmp_path / "missing.pem", key), (key, key)):
        with pytest.raises(OSError, match="cannot be used"):
            http_server(app, *pair)


def test_a_certificate_needs_its_key(tmp_path):
    with pytest.raises(ValueError, match="--tls-certificate and --tls-key go together"):
        ServerConfig.from_flags({"tls_certificate": tmp_path / "chain.pem"})
