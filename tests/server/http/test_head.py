"""HEAD answers like GET, without the body."""

import pytest

from tests.patience import wait_until

GET = ["/healthz", "/readyz", "/metrics", "/v1/models", "/docs", "/openapi.json", "/nowhere"]


@pytest.mark.parametrize("path", [*GET, "/healthz?probe=true", "/healthz?prob=true"])
def test_head_is_get_without_a_body(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    for name in ("content-type", "content-length"):
        if path != "/metrics" or name != "content-length":  # the metrics change meanwhile
            assert head.headers[name] == get.headers[name]


def test_the_connection_stays_in_step(client):
    for _ in range(3):
        assert client.head("/openapi.json").status_code == 200
        assert client.get("/readyz").json()["status"] == "ready"


def test_not_where_there_is_no_get(client):
    answer = client.head("/v1/classify")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_the_log_says_head(client, caplog):
    with caplog.at_level("DEBUG", logger="vimserve.server.telemetry.observe"):
        client.head("/healthz")
        wait_until(lambda: "HEAD /healthz 200" in caplog.text)  # it comes after the answer


def test_head_needs_a_key_where_get_does(serve):
    client, _ = serve(api_key="correct-horse-battery")
    assert client.head("/v1/models").status_code == 401
    assert client.head("/healthz").status_code == 200
