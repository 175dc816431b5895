import os
from pathlib import Path

import pytest
from triton import knobs

from vimserve.kernels.triton_cache import ensure_folder


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_folder.cache_clear()
    monkeypatch.setenv("TRITON_CACHE_DIR", "")  # so that it is as before afterwards
    monkeypatch.delenv("TRITON_CACHE_DIR")


def test_a_home_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRITON_HOME", os.devnull)
    ensure_folder()
    (Path(knobs.cache.dir) / "kernel").touch()
    assert "set TRITON_CACHE_DIR to a folder that can be written" in caplog.text


def test_a_home_that_can_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_HOME", str(tmp_path))
    ensure_folder()
    assert Path(knobs.cache.dir).is_relative_to(tmp_path)
    assert not caplog.text
