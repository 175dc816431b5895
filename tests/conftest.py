"""Fixtures of more than one package's tests."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from tests.eager_graph import EagerGraph
from vimserve.model import graphs


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[EagerGraph]:
    made: list[EagerGraph] = []

    def record(run: Callable[[], Tensor], pool: Any) -> graphs.Recording:
        made.append(EagerGraph(run))
        return graphs.Recording(made[-1], made[-1].scores)  # type: ignore[arg-type]

    monkeypatch.setattr(graphs, "record", record)
    return made
