from collections.abc import Iterator

import pytest

from tests.paths import ROOT
from tests.patience import PATIENCE_S
from tests.server.live import live
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """A server that has answered and refused."""
    data = (ROOT / "model" / "demo" / "samples" / "dog.jpg").read_bytes()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("vimserve.server.http.server.CLIENT_TIMEOUT_S", PATIENCE_S)
        with live(create_app(ServerConfig(max_resolution=320))) as client:
            for path in ("classify", "segment", "classify?top_k=0"):
                client.post(f"/v1/{path}", content=data)
            yield str(client.base_url).rstrip("/")
