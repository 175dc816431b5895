"""The page's section is written in its place, and the committed one is of the present kernels."""

import re
from pathlib import Path

import pytest
import triton

from tests.paths import ROOT
from vimserve.loadtests.gpu_check.simulator import page, tables
from vimserve.model.config import VIM_TINY

PAGE = ROOT / "docs" / "gpu.md"


@pytest.fixture(autouse=True)
def _no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("loops", "kernels", "passes"):
        monkeypatch.setattr(page, name, lambda name=name: [f"the table of {name}"])


def test_a_page_is_made(tmp_path: Path) -> None:
    page.write(tmp_path / "gpu.md")
    text = (tmp_path / "gpu.md").read_text()

    assert text.startswith("# On a GPU\n\n## Predicted times\n\n**Nothing in these tables")
    assert text.endswith("the table of passes\n")


@pytest.mark.parametrize("after", ["", "\n## CUDA calls\n\n| a | b |\n"])
def test_other_sections_stay(tmp_path: Path, after: str) -> None:
    file = tmp_path / "gpu.md"
    file.write_text(f"# GPUs\n\nFirst.\n\n## Predicted times\n\nEarlier.\n{after}")
    page.write(file)
    text = file.read_text()

    assert text.startswith("# GPUs\n\nFirst.\n\n## Predicted times\n\n**")
    assert text.endswith(f"the table of passes\n{after}")
    assert "Earlier." not in text
    page.write(file)
    assert file.read_text() == text


def test_the_committed_page_is_of_the_present_loop() -> None:
    text = PAGE.read_text()
    if f"with Triton\n{triton.__version__}." not in text:
        pytest.skip("written with another Triton")
    row = re.search(r"^\| Vim-Ti `walk_outputs` \| sm_90 \| (.*) \|$", text, re.MULTILINE)
    assert row is not None
    cells = tuple(int(cell) for cell in row[1].split(" | "))

    assert cells == tables.loop(VIM_TINY, "walk_outputs", 90), f"run {page.COMMAND} --page"
