"""DeiT with ``torch.compile`` under a recorded graph: the best that PyTorch makes of it.

Its compiler takes long, so this comes last.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vimserve.loadtests.gpu_check.models import build, square_batch, uses
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row
from vimserve.loadtests.gpu_check.timing import median_ms
from vimserve.model.graphs import record

MODEL = "deit-tiny"
CASES = ((1248, 1), (224, 64))  # pixels, images


def jobs() -> Iterator[Job]:
    """A job for each shape."""
    for size, images in CASES:
        yield Job(f"{MODEL} {size} x {images}", _rows(size, images), uses(MODEL))


def _rows(size: int, images: int) -> Callable[[Clock], Iterator[Row]]:
    def rows(clock: Clock) -> Iterator[Row]:  # noqa: ARG001
        model = build(MODEL)
        compiled = torch.compile(model.classify, dynamic=False)
        with torch.inference_mode():
            tokens, layout = model.embed(square_batch(model.config, size, images))
            labels = {"model": MODEL, "size": size, "images": images}

            def run() -> Tensor:
                return compiled(tokens, layout)

            plain = record(lambda: model.classify(tokens, layout), None)
            recorded = record(run, None)  # compiles, in its warm-ups
            for mode, graph in (("graphs", plain), ("compiled, graphs", recorded)):
                ms = median_ms([graph.graph.replay])
                yield {**labels, "mode": mode, "ms": ms, "images_per_s": 1e3 * images / ms}

    return rows
