"""CUDA graphs: a forward pass recorded once per bucket of tokens and replayed for every batch.

A Vim-Ti launches some 170 kernels, each of which runs for a few microseconds at 224 pixels:
launching them one by one takes longer than running them. A graph has fixed shapes, so a batch is
padded to a bucket. The padding forms sequences of its own. State never crosses from one sequence to
the next, so the padding changes no image's answer.

A replay allocates nothing, because its memory was set aside while it was recorded. So the peak of a
pass is measured while it is recorded, and kept with the recording.
"""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vimserve.model.batch import PackedBatch, to_device
from vimserve.model.buckets import AnyBucket, choose_bucket
from vimserve.model.device_errors import ran_out_of_memory
from vimserve.model.device_memory import PeakMeter, held_bytes
from vimserve.model.layout import Layout, class_rows
from vimserve.model.packed import PackedModel
from vimserve.model.served import Answers, Wanted

logger = logging.getLogger(__name__)

WARM_UPS = 2


class GraphedModel:
    """A classifier whose forward passes are replayed; one thread at a time may call it.

    What no bucket holds runs without a graph, and so does what a bucket would hold for whose graph
    there was no memory. After the model's parameters have changed, make another one.

    Args:
        model: on a CUDA device.
        buckets: ascending; a graph is made for each.

    Raises:
        ValueError: if the model is not on a CUDA device.
    """

    @torch.inference_mode()
    def __init__(self, model: PackedModel, buckets: Sequence[AnyBucket]) -> None:
        start = time.monotonic()
        recorder = Recorder()
        self._model = model
        self._graphs = TokenGraphs(model, model.classify, buckets, recorder)
        logger.info("%d CUDA graphs in %.1f s", recorder.count, time.monotonic() - start)

    @torch.inference_mode()
    def __call__(self, batch: PackedBatch) -> Tensor:
        """Class scores ``[N, classes]``, as the model's own ``forward``."""
        return self._run(batch)[0]

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:  # noqa: ARG002
        """Class scores, as the model's own ``answer``, and the memory of the graph."""
        return Answers.of_scores(*self._run(batch))

    def _run(self, batch: PackedBatch) -> tuple[Tensor, int]:
        """The class scores, and the peak bytes of the graph that was replayed."""
        scores, peak_bytes = self._graphs(batch, *self._model.embed(batch))
        # A copy, because the next replay writes to the same memory.
        return scores[: batch.num_images].clone(), peak_bytes


class TokenGraphs:
    """What one function makes of packed tokens, recorded for each bucket.

    Args:
        model: whose tokens these are, on a CUDA device.
        run: makes a tensor of tokens ``[T, D]`` and where their sequences lie.
        buckets: ascending.
        recorder: records.
    """

    def __init__(
        self,
        model: PackedModel,
        run: Callable[[Tensor, Layout], Tensor],
        buckets: Sequence[AnyBucket],
        recorder: "Recorder",
    ) -> None:
        self._run = run
        self._inputs = StaticInputs(model, buckets)
        self._recordings: dict[AnyBucket, Recording] = {}
        # The largest is recorded first, so that the smaller ones can use its memory.
        for bucket in reversed(buckets):
            self._inputs.clear(bucket)
            run_bucket = functools.partial(run, *self._inputs.view(bucket))
            if recording := recorder.record(run_bucket, f"{bucket.tokens} tokens"):
                self._recordings[bucket] = recording
        self._buckets = [bucket for bucket in buckets if bucket in self._recordings]

    def __call__(self, batch: PackedBatch, tokens: Tensor, layout: Layout) -> tuple[Tensor, int]:
        """What the function makes of a batch, and the peak bytes of the graph that was replayed.

        The rows of the padding come after the batch's. The next call overwrites the result.
        """
        bucket = choose_bucket(self._buckets, layout.lengths)
        if bucket is None:
            return self._run(tokens, layout), 0
        self._inputs.fill(bucket, tokens, batch, layout)
        return self._recordings[bucket].replay()


@dataclass(frozen=True)
class Recording:
    """A graph and the tensor that its replay fills.

    Attributes:
        peak_bytes: the most that the recorded pass held of the graph's own memory, without cuBLAS's
            workspace.
    """

    graph: torch.cuda.CUDAGraph
    output: Tensor
    peak_bytes: int

    def replay(self) -> tuple[Tensor, int]:
        """The output, which the next replay overwrites, and ``peak_bytes``."""
        self.graph.replay()
        return self.output, self.peak_bytes


class Recorder:
    """Records one run after another, in memory that the graphs share.

    Attributes:
        count: of the graphs.
    """

    def __init__(self) -> None:
        self.count = 0
        self._pool: Any = None

    def record(self, run: Callable[[], Tensor], what: str) -> Recording | None:
        """The recording of a run, or None, and a warning in the log, if there is no memory for it.

        Raises:
            ValueError: without a CUDA device.
        """
        try:
            recording = record(run, self._pool)
        except RuntimeError as error:
            if not ran_out_of_memory(error):
                raise
            logger.warning("no CUDA graph for %s: %s", what, _first_line(error))
            return None
        self.count += 1
        self._pool = recording.graph.pool()
        return recording


def record(run: Callable[[], Tensor], pool: Any) -> Recording:
    """Record what ``run`` launches, in the memory ``pool`` of other graphs unless it is None.

    Nothing else may allocate on the device meanwhile.

    Raises:
        ValueError: without a CUDA device.
        RuntimeError: if memory runs out, among others; see ``ran_out_of_memory``.
    """
    if not torch.cuda.is_available():
        raise ValueError("CUDA graphs need a CUDA device")
    graph, stream = torch.cuda.CUDAGraph(), side_stream()
    pool = pool or torch.cuda.graph_pool_handle()
    stream.wait_stream(torch.cuda.current_stream())
    # Changed here as well, because ``graph`` leaves its stream in use if a capture cannot be ended.
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):  # compiles kernels, and shows whether there is enough memory
            run()
        release_workspaces(stream.device)
        try:
            # Only this thread's calls end the capture in an error: another one may ask for the
            # device's memory at any moment.
            with (
                PeakMeter(stream.device) as meter,
                torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"),
            ):
                output = run()
        except BaseException:
            # If a capture cannot be ended, the allocator of PyTorch 2.11 and 2.12 believes that it
            # goes on, and keeps its pool for ever (pytorch#180395). An ended one raises here.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
                torch._C._cuda_releasePool(torch.cuda.current_device(), pool)
            raise
        finally:
            workspace = release_workspaces(stream.device)
    torch.cuda.current_stream().wait_stream(stream)
    return Recording(graph, output, meter.bytes - workspace)


@functools.cache
def side_stream() -> torch.cuda.Stream:
    """The stream on which all graphs are recorded."""
    return torch.cuda.Stream()


def workspace_bytes(capability: tuple[int, int]) -> int:
    """What cuBLAS gets of PyTorch 2.11 to 2.13 on each stream, on a GPU of this capability.

    Source: ``parseChosenWorkspaceSize`` in PyTorch's ``aten/src/ATen/cuda/CublasHandlePool.cpp``.
    """
    return 32 * 2**20 if 9 <= capability[0] <= 12 else 2 * 4 * 2**20 + 8 * 16 * 2**10


def release_workspaces(device: torch.device) -> int:
    """Let cuBLAS forget its workspaces; it takes new ones when it needs them.

    PyTorch keeps a workspace for each stream, and from 2.12 on frees it when a graph recorded on
    that stream is destroyed, though other graphs still write to it (pytorch#193402). With none at
    the beginning of a capture and none after it, each graph's workspace lies in its own pool, whose
    memory stays as long as the graph does.

    Returns:
        The bytes that were freed.
    """
    held = held_bytes(device)
    torch._C._cuda_clearCublasWorkspaces()
    return held - held_bytes(device)


class StaticInputs:
    """The memory that graphs read their batch from, shared by all buckets.

    Args:
        model: whose tokens these are.
        buckets: of all graphs.
    """

    def __init__(self, model: PackedModel, buckets: Sequence[AnyBucket]) -> None:
        weight = model.patch_embed.proj.weight
        self._config = model.config
        self._tokens = weight.new_zeros(max(b.tokens for b in buckets), model.config.width)
        self._flat = weight.new_zeros(max(map(self._ints, buckets)), dtype=torch.int32)
        # They depend on the images' grids, so a replay reads them as it reads the tokens. What an
        # earlier batch leaves behind turns padding alone.
        self._turns = None
        if model.config.rotary:
            self._turns = self._tokens.new_zeros(len(self._tokens), 2, dtype=torch.float32)

    def view(self, bucket: AnyBucket) -> tuple[Tensor, Layout]:
        """The bucket's tokens and layout, whose ``lengths`` are the bucket's ``host_lengths``."""
        flat = self._flat[: self._ints(bucket)]
        turns = None if self._turns is None else self._turns[: bucket.tokens]
        return self._tokens[: bucket.tokens], Layout.view(
            flat, bucket.sequences, bucket.host_lengths, turns
        )

    def fill(self, bucket: AnyBucket, tokens: Tensor, batch: PackedBatch, layout: Layout) -> None:
        """Copy a batch in and pad it."""
        padded, _ = self.view(bucket)
        padded[: len(tokens)].copy_(tokens)
        padded[len(tokens) :].zero_()
        if self._turns is not None and layout.turns is not None:
            self._turns[: len(tokens)].copy_(layout.turns)
        self._write_layout(bucket, layout.lengths, class_rows(self._config, batch.grids))

    def clear(self, bucket: AnyBucket) -> None:
        """Fill the bucket with padding alone."""
        self._tokens.zero_()
        self._write_layout(bucket, (), [])

    def _write_layout(
        self, bucket: AnyBucket, lengths: Sequence[int], rows: list[tuple[int, ...]]
    ) -> None:
        values = list(accumulate(bucket.pad(lengths), initial=0))
        values += [row for image in rows for row in image]
        values += [0] * (self._ints(bucket) - len(values))  # padding is classified by any token
        self._flat[: len(values)].copy_(to_device(values, self._flat.device))

    def _ints(self, bucket: AnyBucket) -> int:
        return bucket.sequences * (1 + self._config.class_tokens) + 1


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
