import huggingface_hub
import pytest

from vimserve.model.checkpoint import CheckpointError
from vimserve.model.sources import HubFile


def test_an_unreachable_hub_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repo: str, filename: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(CheckpointError, match=r"could not be downloaded .*pass it as NAME=FILE"):
        HubFile("a/b", "c.pth").fetch()
