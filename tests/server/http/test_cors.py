"""What browsers ask before a page of another site may call the server."""

import pytest

ORIGIN = "https://example.org"
KEY = "correct-horse-battery"


@pytest.fixture(scope="module")
def client(serve_tiny):
    with serve_tiny(cors_origin=(ORIGIN, "http://localhost:3000"), api_key=KEY) as client:
        yield client


def ask_first(client, origin, method="POST", headers="authorization,x-request-priority"):
    return client.options(
        "/v1/classify",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        },
    )


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"])
def test_pages_that_are_named_may_call(client, origin):
    """A browser asks first, without a key."""
    for headers in (
        "authorization",
        "x-request-id,x-request-timeout-ms",
        "content-encoding,traceparent",
    ):
        answer = ask_first(client, origin, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
    answer = client.get("/v1/models", headers={"Origin": origin, "Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert {"X-Request-Id", "Location"} <= {
        *answer.headers["Access-Control-Expose-Headers"].split(", ")
    }
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_they_may_cancel_a_job(client):
    assert ask_first(client, ORIGIN, method="DELETE").status_code == 200


def test_they_can_read_a_refusal(client):
    answer = client.get("/v1/models", headers={"Origin": ORIGIN})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize(
    "origin", ["https://example.com", "http://example.org", "https://example.org.evil", "null"]
)
def test_other_pages_may_not(client, origin):
    for answer in (ask_first(client, origin), client.get("/healthz", headers={"Origin": origin})):
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_other_methods_are_not_allowed(client):
    assert ask_first(client, ORIGIN, method="PUT").status_code == 400


def test_every_page_may_if_all_are_named(serve):
    client, _ = serve(cors_origin=("*",))
    answer = client.get("/healthz", headers={"Origin": "https://anyone.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_it_is_off_by_default(serve):
    client, _ = serve()
    answer = client.get("/healthz", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert ask_first(client, ORIGIN).status_code == 405
