from typing import Any

import pytest

from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.vim.config import VimConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_indices": (0, 1, 2)}, "4 of the 4 blocks"),
        ({"out_indices": (0, 1, 2, 4)}, "4 of the 4 blocks"),
        ({"out_indices": (3, 2, 1, 0)}, "in order"),
        ({"num_classes": 257}, "at most 256.*not 257"),
        ({"num_classes": 0}, "at least 1, not 0"),
        ({"channels": 0}, "at least 1, not 0"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], message: str) -> None:
    given = {"out_indices": (0, 1, 2, 3), "channels": 8, "num_classes": 3} | changes
    with pytest.raises(ValueError, match=message):
        UPerNetConfig(VimConfig(width=32, depth=4), **given)  # type: ignore[arg-type]
