"""A server that clients see below a prefix, behind a proxy that takes it off or not."""

import re

import pytest

from tests.server.live import live
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

KEY = "correct-horse-battery"


@pytest.fixture(scope="module")
def client(serve_tiny):
    with serve_tiny(root_path="/vision/two") as client:
        yield client


@pytest.fixture(params=["", "/vision/two"], ids=["taken off", "passed on"])
def prefix(request):
    return request.param


def test_every_route_is_there(client, prefix, picture, encode):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/docs", "/openapi.json"):
        assert client.get(prefix + path).status_code == 200
    data = encode(picture(64, 64))
    assert client.post(f"{prefix}/v1/classify", content=data).status_code == 200


def test_the_documentation_leads_below_the_prefix(client, prefix):
    page = client.get(f"{prefix}/docs").text
    addresses = re.findall(r"""(?:href|src|url:|url")\W*["']([^"']+)""", page)
    assert "/vision/two/openapi.json" in addresses
    assert len(addresses) >= 4
    for address in addresses:
        assert address.startswith("/vision/two/")
        assert client.get(prefix + address.removeprefix("/vision/two")).status_code == 200


def test_the_contract_names_the_prefix(client, prefix):
    assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/vision/two"}]


def test_wrong_parameters_are_still_explained(client, prefix):
    problem = client.get(f"{prefix}/healthz?made_up=1").json()
    assert (problem["parameter"], problem["limit"]) == ("made_up", ["probe"])


@pytest.mark.parametrize("path", ["/vision/healthz", "/vision/twohealthz", "/vision", "/x"])
def test_other_paths_lead_nowhere(client, path):
    assert client.get(path).status_code == 404


def test_the_same_paths_are_open_without_a_key(serve, prefix):
    client, _ = serve(root_path="/vision/two", api_key=KEY)
    assert client.get(f"{prefix}/healthz").status_code == 200
    assert client.get(f"{prefix}/v1/models").status_code == 401
    assert client.get(f"{prefix}/metrics").status_code == 401
    assert client.get(f"/vision/two{prefix}/healthz/").status_code == 401


@pytest.mark.parametrize("prefix", ["/v1", "/healthz", "/v1/models"])
def test_a_prefix_that_begins_an_own_path_is_refused(spec, prefix):
    with pytest.raises(ValueError, match=f"root-path: {prefix} begins /"):
        create_app(ServerConfig(root_path=prefix), [spec])


def test_no_prefix_changes_nothing(tiny, spec):
    with live(create_app(ServerConfig(root_path="/"), [spec])) as client:
        assert "servers" not in client.get("/openapi.json").json()
