import math

import pytest
import torch
from torch import Tensor

from tests.model.checkpoints import rope_tables
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.vim.config import Rope
from vimserve.model.families.vim.rope_tables import read_rope


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("side", [2, 3, 14, 32, 64])
@pytest.mark.parametrize("span", [3, 14, 100])
def test_the_span_is_read_off_the_tables(side: int, span: int, dtype: torch.dtype) -> None:
    """Also where patches are more than half a turn apart."""
    tables = {name: table.to(dtype) for name, table in rope_tables(side, 32, span).items()}
    assert read_rope(tables, 32, "both") == Rope(span)
    assert read_rope(tables, 32, "hidden") == Rope(span, residual=False)


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
