from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _poisoned_empties() -> Iterator[None]:
    """In its deterministic mode PyTorch fills what torch.empty returns with NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)
