"""One import name, and the entry points that users rely on, seen from outside of the repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

ENTRY_POINTS = """
from vimserve import __version__
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_model
from vimserve.model.config import DeiTConfig, VimConfig
from vimserve.model.deit import DeiT
from vimserve.model.upernet import UPerNetSegmenter
from vimserve.model.vim import Vim
from vimserve.server.app import create_app
"""


def run(folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in a folder, as whoever has installed us does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["server", "model", "kernels", "loadtests"])
def test_bare_names_are_somebody_else_s(name, tmp_path):
    """A user's own module is imported by its name, and ours beside it."""
    (tmp_path / f"{name}.py").write_text("MINE = True\n")
    done = run(tmp_path, f"import {name}, vimserve.{name}; assert {name}.MINE")
    assert done.returncode == 0, done.stderr
    (tmp_path / f"{name}.py").unlink()
    assert f"No module named '{name}'" in run(tmp_path, f"import {name}").stderr


def test_entry_points(tmp_path):
    done = run(tmp_path, ENTRY_POINTS)
    assert done.returncode == 0, done.stderr


def test_the_folders_are_links_that_hold_in_any_clone():
    links = {
        link.name: link.readlink() for link in (ROOT / "vimserve").iterdir() if link.is_symlink()
    }
    assert links == {name: Path("..", name) for name in ("kernels", "loadtests", "model", "server")}
