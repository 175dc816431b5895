"""A wrong method is told which ones the path has, all of them."""

import pytest


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/", "GET, POST"), ("/v1/classify", "POST"), ("/v1/jobs/x", "GET, DELETE")],
)
def test_every_method_of_a_path_is_told(client, path, allowed):
    answer = client.put(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
