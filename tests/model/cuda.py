"""A CUDA without a GPU: PyTorch's caching allocator, its graphs and cuBLAS's workspaces."""

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

MIB = 2**20
ORDINARY = (0, 0)
Version = tuple[int, int]


@dataclass(eq=False)
class Segment:
    """What one ``cudaMalloc`` returned: the sizes of its blocks in use, by their offsets."""

    size: int
    pool: tuple[int, int]
    stream: int
    mapped: bool = True
    used: dict[int, int] = field(default_factory=dict)

    def gap(self, size: int) -> int | None:
        """The offset of the smallest free block that is large enough, if there is one."""
        ends = [0, *(offset + length for offset, length in sorted(self.used.items()))]
        gaps = zip(ends, [*sorted(self.used), self.size], strict=True)
        fitting = [(end - begin, begin) for begin, end in gaps if end - begin >= size]
        return min(fitting)[1] if fitting else None


@dataclass(eq=False)
class Block:
    """Memory of a tensor, until ``free`` or the end of its last reference."""

    cuda: "Cuda"
    segment: Segment
    offset: int
    alive: bool = True

    def free(self) -> None:
        """Give it back to the allocator."""
        if self.alive:
            self.alive = False
            self.cuda.allocated -= self.segment.used.pop(self.offset)

    def __del__(self) -> None:
        self.free()


class Stream:
    """One of the 32 streams that PyTorch hands out in turn."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.device = torch.device("cuda", 0)

    def wait_stream(self, other: "Stream") -> None:
        """Nothing runs late here."""


class Cuda:
    """A GPU of ``total`` bytes below PyTorch of a version.

    What it imitates, by file of PyTorch 2.11.0 (70d99e99), 2.12.0 (7661cd9c), 2.13.0 (cf30153c):

    - ``c10/cuda/CUDACachingAllocator.cpp``. ``malloc`` rounds to 512 bytes, and takes the best free
      block of the pool and stream (small and large ones apart), else ``cudaMalloc`` of 2 MiB for
      blocks up to 1 MiB, of 20 MiB for those below 10 MiB, and of whole 2 MiB for others; then it
      frees what is cached and tries again, though not while ``captures_underway`` has an entry;
      then it raises ``OutOfMemoryError``. ``release_cached_blocks`` gives back whole free segments
      of ordinary pools and of those private ones that no graph uses, and asserts that no capture is
      underway.
      ``allocated_bytes`` counts blocks of all pools. ``endAllocateToPool`` raises if the pool is
      not being captured to; ``beginAllocateToPool`` asserts that a pool in use has a graph.
      ``cudaMallocMaybeCapturing`` relaxes the mode for the capturing thread.
    - ``aten/src/ATen/cuda/CUDAGraph.cpp``. ``capture_end`` checks the end of the capture before it
      calls ``endAllocateToPool`` (2.11 and 2.12, as their machine code shows; not 2.13, by
      pytorch#180395). ``reset`` releases the pool of a capture that was ended, and from 2.12 on
      clears cuBLAS's workspaces for its stream.
    - ``aten/src/ATen/cuda/CublasHandlePool.cpp``. A workspace for each stream, taken from the
      caching allocator at the first product and kept.
    - CUDA's ``cudaStreamBeginCapture``: in global mode an unsafe call of any thread fails and
      invalidates the capture, in thread-local mode only one of the capturing thread.
    """

    def __init__(self, total: int, version: Version = (2, 12), workspace: int = 32 * MIB) -> None:
        self.total, self.version, self.workspace = total, version, workspace
        self.segments: list[Segment] = []
        self.graphs_of: dict[tuple[int, int], int] = {}
        self.captures: list[tuple[int, int]] = []
        self.capturing: Graph | None = None
        self.workspaces: dict[int, Block] = {}
        self.allocated = self.peak = 0
        self.streams = itertools.cycle(range(1, 33))
        self.stream = self.main = Stream(0)
        self.made: set[int] = set()
        self.pools = itertools.count(1)

    @property
    def reserved(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    def malloc(self, size: int) -> Block:
        """A tensor of that size on the current stream."""
        size = -(-size // 512) * 512
        capturing = self.capturing is not None and self.stream is self.capturing.stream
        pool = self.capturing.pool_id if self.capturing and capturing else ORDINARY
        own = [
            segment
            for segment in self.segments
            if (segment.pool, segment.stream) == (pool, self.stream.number)
            and (segment.size == 2 * MIB) == (size <= MIB)  # which large segments never have here
        ]
        segment = min(
            (s for s in own if s.gap(size) is not None), key=lambda s: s.size, default=None
        )
        if segment is None:
            large = 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
            segment = Segment(2 * MIB if size <= MIB else large, pool, self.stream.number)
            if self.reserved + segment.size > self.total and not self.captures:
                self.empty_cache()
            if self.reserved + segment.size > self.total:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
            self.segments.append(segment)
        offset = segment.gap(size)
        assert offset is not None
        segment.used[offset] = size
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        return Block(self, segment, offset)

    def product(self, *, out: int) -> Block:
        """A matrix product by cuBLAS."""
        block = self.malloc(out)
        if self.stream.number not in self.workspaces:
            self.workspaces[self.stream.number] = self.malloc(self.workspace)
        if self.capturing is not None:
            for memory in (block, self.workspaces[self.stream.number]):
                self.capturing.written.append((memory.segment, weakref.ref(memory)))
        return block

    def clear_workspaces(self, stream: int | None = None) -> None:
        """``clearCublasWorkspaces``, and ``…ForStream``."""
        for number in [n for n in self.workspaces if stream in (None, n)]:
            self.workspaces.pop(number).free()

    def empty_cache(self) -> None:
        """Give free segments back."""
        if self.captures:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")
        for segment in self.segments:
            if not segment.used and not self.graphs_of.get(segment.pool):
                segment.mapped = False
        self.segments = [segment for segment in self.segments if segment.mapped]

    def end_allocate(self, device: int, pool: tuple[int, int]) -> None:
        """``endAllocateToPool``."""
        if pool not in self.captures:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.captures.remove(pool)

    def release_pool(self, device: int, pool: tuple[int, int]) -> None:
        """``releasePool``."""
        self.graphs_of[pool] -= 1
        assert self.graphs_of[pool] >= 0

    def unsafe_call_of_another_thread(self) -> None:
        """Such as ``cudaMalloc`` on a stream that is not captured."""
        if self.capturing is not None and self.capturing.mode == "global":
            self.capturing.invalid = True
            raise torch.AcceleratorError("CUDA error: operation not permitted when stream is "
                                         "capturing")  # fmt: skip

    def snapshot(self, include_traces: bool = True) -> list[dict[str, Any]]:
        """``torch.cuda.memory_snapshot``."""
        return [
            {"device": 0, "segment_pool_id": segment.pool, "total_size": segment.size,
             "active_size": sum(segment.used.values())}
            for segment in self.segments
        ]  # fmt: skip

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """``torch.cuda.stream``."""
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def new_stream(self, device: object = None) -> Stream:
        """The next of the pool of streams."""
        self.made.add(number := next(self.streams))
        return Stream(number)

    def reset_peak(self, device: object) -> None:
        """``torch.cuda.reset_peak_memory_stats``."""
        self.peak = self.allocated

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let ``torch.cuda`` be this one; ``torch.cuda.graph`` stays PyTorch's own."""
        calls: dict[str, Callable[..., Any]] = {
            "is_available": lambda: True,
            "current_device": lambda: 0,
            "current_stream": lambda device=None: self.stream,
            "Stream": self.new_stream,
            "stream": self.on,
            "synchronize": lambda device=None: None,
            "CUDAGraph": lambda: Graph(self),
            "graph_pool_handle": lambda: (0, next(self.pools)),
            "empty_cache": self.empty_cache,
            "memory_allocated": lambda device: self.allocated,
            "max_memory_allocated": lambda device: self.peak,
            "reset_peak_memory_stats": self.reset_peak,
            "mem_get_info": lambda device: (self.total - self.reserved, self.total),
            "memory_snapshot": self.snapshot,
            "is_current_stream_capturing": lambda: self.capturing is not None,
        }
        for name, call in calls.items():
            monkeypatch.setattr(torch.cuda, name, call)
        private: dict[str, Callable[..., Any]] = {
            "_host_emptyCache": lambda: None,
            "_cuda_clearCublasWorkspaces": self.clear_workspaces,
            "_cuda_endAllocateToPool": self.end_allocate,
            "_cuda_releasePool": self.release_pool,
        }
        for name, call in private.items():
            monkeypatch.setattr(torch._C, name, call, raising=False)


class Graph:
    """A ``torch.cuda.CUDAGraph`` that remembers what memory it was recorded in."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.stream = cuda.stream
        self.pool_id = ORDINARY
        self.mode = ""
        self.invalid = self.ended = False
        self.written: list[tuple[Segment, weakref.ref[Block]]] = []

    def capture_begin(self, pool: tuple[int, int], capture_error_mode: str, **_: object) -> None:
        assert self.cuda.stream is not self.cuda.main, "must be captured on a non-default stream"
        self.stream, self.pool_id, self.mode = self.cuda.stream, pool, capture_error_mode
        assert self.cuda.graphs_of.get(pool) != 0 or not any(
            segment.pool == pool for segment in self.cuda.segments
        ), "use_count > 0 INTERNAL ASSERT FAILED"
        self.cuda.graphs_of[pool] = self.cuda.graphs_of.get(pool, 0) + 1
        self.cuda.captures.append(pool)
        self.cuda.capturing = self

    def capture_end(self) -> None:
        self.cuda.capturing = None
        if self.cuda.version >= (2, 13):
            self.cuda.end_allocate(0, self.pool_id)
        if self.invalid:
            raise torch.AcceleratorError("CUDA error: operation failed due to a previous error "
                                         "during capture")  # fmt: skip
        if self.cuda.version < (2, 13):
            self.cuda.end_allocate(0, self.pool_id)
        self.ended = True

    def pool(self) -> tuple[int, int]:
        assert self.ended
        return self.pool_id

    def replay(self) -> None:
        """Write where the recorded pass wrote: to its own pool, or to what is not freed."""
        for segment, block in self.written:
            own = segment.pool == self.pool_id
            if not (segment.mapped and (own or block())):
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def reset(self) -> None:
        """As the destructor."""
        if self.ended:
            self.ended = False
            if self.cuda.version >= (2, 12):
                self.cuda.clear_workspaces(self.stream.number)
            self.cuda.release_pool(0, self.pool_id)

    def __del__(self) -> None:
        self.reset()
