import math

import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.model.checkpoints import rope_tables
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.families.vim.rope_tables import make_tables, read_rope


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("side", [2, 3, 14, 32, 64])
@pytest.mark.parametrize("span", [3, 14, 100])
def test_the_span_is_read_off_the_tables(side: int, span: int, dtype: torch.dtype) -> None:
    """Also where patches are more than half a turn apart."""
    tables = {name: table.to(dtype) for name, table in rope_tables(side, 32, span).items()}
    assert read_rope(tables, 32, "both") == Rope(span)
    assert read_rope(tables, 32, "hidden") == Rope(span, residual=False)


def test_tables_are_made_as_published() -> None:
    made = make_tables(VimConfig(width=32, grid=(6, 6), rope=Rope(14)))
    published = rope_tables(6, 32, 14)
    assert made.keys() == published.keys()
    for name, table in published.items():
        assert_close(name, made[name], table, atol=1e-5)
    assert not make_tables(VimConfig(width=32))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"rope.freqs_cos": torch.ones(16, 32)}, "rope.freqs_sin, do not fit"),
        (rope_tables(4, 64), "not a square number of rows for tokens of 32 channels"),
        (
            {n: t[:15] for n, t in rope_tables(4, 32).items()},
            r"are \[15, 32\], not a square number of rows",
        ),
        ({n: t.flip(1) for n, t in rope_tables(4, 32).items()}, "not those of the published code"),
        ({n: t * math.nan for n, t in rope_tables(4, 32).items()}, "not finite"),
    ],
)
def test_other_tables_are_refused(tables: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_rope(tables, 32, "both")
