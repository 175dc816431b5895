import sys
from pathlib import Path

import pytest

from vimserve.model.training.options import Options, read_options

DEFAULTS = Options(Path("weights"), minutes=5, seed=3)


def test_the_command_line_overrides_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--minutes", "0.5", "--start-from", "others"])
    given = read_options(None, DEFAULTS)
    assert given == Options(Path("weights"), minutes=0.5, seed=3, start_from=Path("others"))
