"""Whether a GPU's memory is accounted for as ``model/graphs.py`` and the server's plan suppose.

Each gate does on the device what ``tests/model/test_graphs.py`` does with a stand-in. An error that
breaks the device makes its gate red; what comes after it then fails as well.
"""

import functools
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vimserve.loadtests.gpu_check.gates import Gate
from vimserve.model.device_errors import ran_out_of_memory
from vimserve.model.device_memory import held_bytes, release_unused, usage
from vimserve.model.graphs import record, release_workspaces, workspace_bytes

DEVICE = torch.device("cuda")
MIB = 2**20
SIDE = 4096  # of a matrix of 32 MiB in bfloat16, which the allocator neither rounds nor splits
RESULT = 2 * SIDE * SIDE
LONG, SHORT = 65_536, 256  # cuBLAS splits a sum of so many terms, and adds the parts in a workspace
GRAPHS = 4
SLACK = 4 * MIB  # for what small tensors need
SEGMENT = 20 * MIB  # of which the allocator takes at least one for a workspace below 10 MiB


@torch.inference_mode()
def memory_gates() -> Iterator[Gate]:
    """Gates whose errors and bounds are bytes, or sums that should not differ."""
    for gate in (
        _workspace,
        _peak_and_replay,
        _pools_are_taken,
        _no_workspace_stays,
        _another_thread,
        _capture_without_memory,
        _end_of_another_graph,  # last, because its error would break the device
    ):
        try:
            release_unused(DEVICE)
            yield from gate()
        except RuntimeError as error:
            message = str(error).partition("\n")[0]
            yield Gate(f"memory: {gate.__name__.strip('_')}: {message}", float("nan"), 0)


def hold(size: int) -> Tensor:
    """A tensor of ``size`` bytes, none of which is a sensible number."""
    return torch.full((size,), 255, dtype=torch.uint8, device=DEVICE)


def product() -> Tensor:
    """A product of ``RESULT`` bytes."""
    return torch.mm(*_ones(SIDE, SIDE))


def long_product() -> Tensor:
    """A product that needs cuBLAS's workspace: ``LONG`` everywhere."""
    return torch.mm(*_ones(SHORT, LONG))


def error_of_long_product(result: Tensor) -> float:
    """How far it is off."""
    torch.cuda.synchronize(DEVICE)
    return (result.float() - LONG).abs().max().item()


def use_device_elsewhere() -> None:
    """Ask for the memory's size and allocate in another thread, as a scrape and a loader do.

    Raises:
        RuntimeError: that it raised there.
    """
    failures: list[RuntimeError] = []

    def work() -> None:
        try:
            torch.cuda.mem_get_info(DEVICE)
            torch.empty(64 * MIB, dtype=torch.uint8, device=DEVICE)
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def two_products() -> Tensor:
    """Two products of which the first is dropped once the second is there."""
    first = product()
    second = product()
    del first
    return second


@functools.cache
def _ones(rows: int, terms: int) -> tuple[Tensor, Tensor]:
    left = torch.ones(rows, terms, dtype=torch.bfloat16, device=DEVICE)
    return left, left.mT.contiguous()


def _workspace() -> Iterator[Gate]:
    product()
    freed = release_workspaces(DEVICE)
    expected = workspace_bytes(torch.cuda.get_device_capability(DEVICE))
    yield Gate("memory: cuBLAS's workspace", abs(freed - expected), SLACK)


def _peak_and_replay() -> Iterator[Gate]:
    recording = record(two_products, None)
    yield Gate("memory: peak of a recorded pass", abs(recording.peak_bytes - 2 * RESULT), SLACK)
    torch.cuda.reset_peak_memory_stats(DEVICE)
    held = held_bytes(DEVICE)
    recording.graph.replay()
    torch.cuda.synchronize(DEVICE)
    yield Gate("memory: a replay allocates", torch.cuda.max_memory_allocated(DEVICE) - held, 0)


def _pools_are_taken() -> Iterator[Gate]:
    before = usage(DEVICE)
    recording = record(two_products, None)
    release_unused(DEVICE)
    after = usage(DEVICE)
    pool = 2 * RESULT + workspace_bytes(torch.cuda.get_device_capability(DEVICE))
    yield Gate("memory: pool of a graph", abs(after.graphs - before.graphs - pool), SEGMENT)
    free, _ = torch.cuda.mem_get_info(DEVICE)
    yield Gate("memory: pools counted as free", max(0, after.free - free), RESULT)
    del recording


def _no_workspace_stays() -> Iterator[Gate]:
    long_product()  # makes its operands, which stay
    release_workspaces(DEVICE)
    before = usage(DEVICE).held
    recordings = [record(long_product, None) for _ in range(GRAPHS)]
    yield Gate("memory: left outside of graphs", abs(usage(DEVICE).held - before), SLACK)
    del recordings


def _another_thread() -> Iterator[Gate]:
    def run() -> Tensor:
        use_device_elsewhere()
        return long_product()

    recording = record(run, None)
    recording.graph.replay()
    error = error_of_long_product(recording.output)
    yield Gate("memory: another thread allocates during a capture", error, 0)


def _capture_without_memory() -> Iterator[Gate]:
    _, total = torch.cuda.mem_get_info(DEVICE)

    def run() -> Tensor:
        if torch.cuda.is_current_stream_capturing():
            hold(2 * total)
        return long_product()

    yield Gate("memory: a capture without memory ends in that error", _fails(run), 0)
    release_unused(DEVICE)  # raises if the allocator still captures
    recording = record(long_product, None)
    recording.graph.replay()
    error = error_of_long_product(recording.output)
    yield Gate("memory: the next capture", error, 0)


def _fails(run: Callable[[], Tensor]) -> int:
    try:
        record(run, None)
    except RuntimeError as error:
        return 0 if ran_out_of_memory(error) else 1
    return 1


def _end_of_another_graph() -> Iterator[Gate]:
    first, second = record(long_product, None), record(long_product, None)
    del first
    release_unused(DEVICE)
    other = hold(8 * RESULT)  # in what was freed
    second.graph.replay()
    error = error_of_long_product(second.output)
    yield Gate("memory: a graph after the end of another", error, 0)
    del other
