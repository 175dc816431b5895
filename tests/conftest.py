"""Fixtures of more than one package's tests."""

from collections.abc import Callable, Iterator
from typing import Any

import PIL.Image
import pytest
from hypothesis import HealthCheck, settings
from torch import Tensor

from tests.eager_graph import RECORDED_BYTES, EagerGraph
from tests.patience import PATIENCE_S
from vimserve.model import graphs

# Hypothesis would fail examples that a slow machine takes long for.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _patient_servers() -> Iterator[None]:
    """No server gives a request up because the machine is slow, in this process or another."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for setting in ("REQUEST_TIMEOUT", "JOB_TIMEOUT", "DRAIN_TIMEOUT", "STUCK_TIMEOUT"):
            monkeypatch.setenv(f"VIMSERVE_{setting}", str(PATIENCE_S))
        yield


@pytest.fixture(autouse=True)
def _pixels() -> Iterator[None]:
    """No test leaves its limit to the next one: Pillow's is the whole process's."""
    most = PIL.Image.MAX_IMAGE_PIXELS
    yield
    PIL.Image.MAX_IMAGE_PIXELS = most


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[EagerGraph]:
    made: list[EagerGraph] = []

    def record(run: Callable[[], Tensor], pool: Any) -> graphs.Recording:
        made.append(EagerGraph(run))
        return graphs.Recording(made[-1], made[-1].output, RECORDED_BYTES)  # type: ignore[arg-type]

    monkeypatch.setattr(graphs, "record", record)
    return made
