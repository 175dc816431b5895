"""The sweep of chunks: what it forces and what it notes are undone afterwards."""

import math
from typing import Any

import pytest
import torch

from vimserve.kernels.selective_scan import triton as scan
from vimserve.loadtests.gpu_check import sweep
from vimserve.loadtests.gpu_check.sweep import KERNELS, forced_chunk, noted_launches


class Kernel:
    def __init__(self) -> None:
        self.launches: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **options: Any) -> str:
            self.launches.append((grid, args, options))
            return "compiled"

        return launch


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Kernel]:
    made = {name: Kernel() for name in KERNELS}
    for name, kernel in made.items():
        monkeypatch.setattr(scan, name, kernel)
    return made


def call() -> torch.Tensor:
    K, T, E, S, R = 2, 20, 32, 8, 4
    return scan.selective_scan(
        torch.zeros(K, T, E), torch.zeros(K, T, R), torch.zeros(K, E, R), torch.zeros(K, E),
        torch.zeros(K, E, S), torch.zeros(K, T, S), torch.zeros(K, T, S), torch.zeros(K, E),
        torch.zeros(T, E), torch.tensor([0, 5, T], dtype=torch.int32), [False, True],
        side_by_side=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("chunk", "launched"), [(0, ["walk_outputs"]), (8, [*KERNELS]), (70, [*KERNELS])]
)
def test_a_chunk_is_forced(chunk: int, launched: list[str], kernels: dict[str, Kernel]) -> None:
    chosen = getattr(scan, sweep.CHOICE)
    with forced_chunk(chunk):
        call()
    assert [name for name, kernel in kernels.items() if kernel.launches] == launched
    (launch,) = kernels["walk_outputs"].launches
    assert launch[2]["chunk"] == chunk
    assert getattr(scan, sweep.CHOICE) is chosen


def test_each_launch_can_be_repeated_alone(kernels: dict[str, Kernel]) -> None:
    with forced_chunk(8), noted_launches() as launches:
        call()
    assert list(launches) == [*KERNELS]
    assert math.prod(launches["walk_outputs"].grid) == 3 * 2  # chunks and directions
    assert launches["walk_outputs"].options["num_warps"] == 1

    assert launches["carry"].again() == "compiled"

    counts = {name: len(kernel.launches) for name, kernel in kernels.items()}
    assert counts == {"walk_states": 1, "carry": 2, "walk_outputs": 1}
    first, again = kernels["carry"].launches
    assert first[0] == again[0]
    assert all(a is b for a, b in zip(first[1], again[1], strict=True))
    assert getattr(scan, "carry") is kernels["carry"]  # noqa: B009


def test_the_choice_comes_back_after_an_error(kernels: dict[str, Kernel]) -> None:
    chosen = getattr(scan, sweep.CHOICE)
    with pytest.raises(ZeroDivisionError), forced_chunk(8), noted_launches():
        raise ZeroDivisionError
    assert getattr(scan, sweep.CHOICE) is chosen
    assert getattr(scan, "carry") is kernels["carry"]  # noqa: B009
