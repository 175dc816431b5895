"""A server for all tests that only need one."""

import pytest

from vimserve.loadtests.common.server import serving


@pytest.fixture(scope="session")
def server():
    """A small server with a short queue; whatever tests do to it, it ends well."""
    with serving(["--model", "demo", "--threads", "1", "--max-queue-tokens", "30000"]) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log
