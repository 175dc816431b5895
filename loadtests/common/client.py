"""The HTTP client of the load tests, on aiohttp. Locust alone brings its own."""

from collections.abc import Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

# Far less than the ten seconds after which the server closes an idle connection.
KEEP_ALIVE_S = 1.0
TIMEOUT_S = 120.0
READY_TIMEOUT_S = 5.0


def open_session(url: str) -> aiohttp.ClientSession:
    """A client of the server at ``url``, to be used as an asynchronous context manager.

    It opens a connection for every request that is under way at the same time. A connection that
    has been idle for ``KEEP_ALIVE_S`` is closed from this side, before the server would close it:
    otherwise a request might be sent on a connection that the server is just closing.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    return aiohttp.ClientSession(url, connector=connector, timeout=timeout)


async def is_ready(url: str, path: str = "/readyz") -> bool:
    """Whether a server listens at ``url`` and answers ``path`` with 200: its models are warm."""
    limit = aiohttp.ClientTimeout(total=READY_TIMEOUT_S)
    try:
        async with open_session(url) as session, session.get(path, timeout=limit) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def scrape(session: aiohttp.ClientSession) -> list[Sample]:
    """All samples of ``/metrics``.

    Raises:
        aiohttp.ClientError, TimeoutError: if the server does not answer.
        ValueError: if the answer is not in Prometheus's text format.
    """
    async with session.get("/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        return [sample for family in families for sample in family.samples]


def values(samples: Sequence[Sample], name: str, **labels: str) -> list[float]:
    """The values of the samples that have this name and, among others, these labels."""
    return [
        sample.value
        for sample in samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
