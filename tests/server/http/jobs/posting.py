"""A client of jobs."""

from tests.patience import wait_until
from tests.server.telemetry.scraping import scrape


def post(client, data, query="", **headers):
    """The path of a new job."""
    answer = client.post(f"/v1/jobs?{query}", content=data, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def state(client, url):
    return client.get(url).json()


def status(client, url):
    return state(client, url)["status"]


def until(client, url, *wanted):
    """Wait until the job has one of these statuses."""
    wait_until(lambda: status(client, url) in wanted)


def until_answered(client, url, windows):
    """Wait until the model has answered so many of the job's windows."""
    wait_until(lambda: state(client, url)["progress"]["done"] == windows)


def queued(client, number):
    """Wait until so many images wait for the device."""
    wait_until(lambda: scrape(client)["queue_depth", "tiny"] == number)
