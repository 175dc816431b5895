"""What the models of ``docker/compose.yaml`` take of cards that are not here, by calculation.

``python -m tests.server.engine.cards`` prints the table of ``docs/deploy.md``. The models run on
the meta device, where what they allocate is counted (``tests/model/offdevice.py``); the counts
become memory models and a plan as the server makes them.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

from tests.model.offdevice import LiveBytes, meta_batch, meta_model, stubbed_kernels
from vimserve.model.catalog import resolve
from vimserve.model.device_memory import Usage
from vimserve.model.graphs import workspace_bytes
from vimserve.model.served import ServedModel
from vimserve.server.config import ServerConfig
from vimserve.server.engine.device import backbone_of
from vimserve.server.engine.loading import (
    DETECTORS_SIDES,
    ENOUGH_TOKENS,
    LEAST_SAMPLES,
    MEASURED_SIDES,
    make_budget,
)
from vimserve.server.engine.memory import MemoryModel, fit
from vimserve.server.engine.plan import Demand, largest_batch, room

MODELS = ("vim-tiny", "deit-tiny", "deit-tiny-eager", "demo", "demo-seg", "demo-det")
MIB = 2**20
# MiB as nvidia-smi tells them, and compute capability.
CARDS = {
    "RTX 3070 8 GB": (8_192, (8, 6)),
    "T4 16 GB": (15_360, (7, 5)),
    "L4 24 GB": (23_034, (8, 9)),
    "A100 40 GB": (40_960, (8, 0)),
    "A100 80 GB": (81_920, (8, 0)),
    "H100 80 GB": (81_559, (9, 0)),
}
CONTEXT = 600 * MIB  # the driver's, with the kernels: a guess
SIDE = 1248
HEAD = ("card", "may be taken", "held", "graphs", "left", *(f"`{model}`" for model in MODELS))


@dataclass(frozen=True)
class Counted:
    """A model in bfloat16: bytes of its weights, its memory model, the tokens of a large image."""

    weights: int
    memory: MemoryModel
    graphs: bool
    tokens: int


@functools.cache
def counted(name: str) -> Counted:
    """What a model of the catalog allocates."""
    with stubbed_operations(), torch.inference_mode():
        with LiveBytes() as live:
            model = meta_model(resolve(name).config, torch.bfloat16)
            peak(model, 64)  # derives the weights
        per_image = model.image_bytes
        sides = DETECTORS_SIDES if per_image else MEASURED_SIDES[:LEAST_SAMPLES]
        samples = [([tokens(model, side)], peak(model, side)) for side in sides]
    memory = fit(samples, quadratic=model.config.attention == "eager", per_image=per_image)
    return Counted(live.now, memory, backbone_of(model) is not None, tokens(model, SIDE))


def tokens(model: ServedModel, side: int) -> int:
    """Of a square image."""
    return model.num_tokens((side // 16, side // 16))


def peak(model: ServedModel, side: int) -> int:
    """Bytes that the pass over one square image allocates at its peak, its patches included."""
    batch = meta_batch(model.config, [(side // 16, side // 16)])
    with LiveBytes() as live:
        model.answer(batch, [model.costliest((side, side))])
    return live.peak + batch.patches.nbytes


@contextmanager
def stubbed_operations() -> Iterator[None]:
    """Kernels, and attention that keeps its scores on the chip, as what they allocate."""

    def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.empty_like(q)

    def upsample_argmax(scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, None]:
        scores.permute(1, 2, 0).contiguous()
        return scores.new_empty(size, dtype=torch.uint8), None

    families = "vimserve.model.families"
    with (
        stubbed_kernels(),
        mock.patch(f"{families}.deit.attention.fused_attention", fused_attention),
        mock.patch(f"{families}.upernet.segmenter.upsample_argmax", upsample_argmax),
    ):
        yield


def row(card: str) -> tuple[str, ...]:
    """GB, then images of 1248 pixels in the largest batch of each model."""
    mebibytes, capability = CARDS[card]
    workspace, wanted = workspace_bytes(capability), ENOUGH_TOKENS["cuda"]
    models = [counted(name) for name in MODELS]
    demands = [
        Demand(name, model.weights, batch_of(model, wanted), workspace, model.graphs)
        for name, model in zip(MODELS, models, strict=True)
    ]
    fraction: float = ServerConfig.model_fields["memory_fraction"].default
    total = mebibytes * MIB - CONTEXT
    held = sum(model.weights for model in models) + workspace
    before = Usage(total - held, held, 0)
    most = largest_batch(demands, room(before, fraction))
    graphs = sum(demand.pool(most) for demand in demands)
    left = room(Usage(total - held - graphs, held, graphs), fraction)
    gigabytes = [f"{size / 1e9:.1f}" for size in (fraction * total, held, graphs, left)]
    images = [
        str(images_of(model, min(left, demand.batch), wanted))
        for model, demand in zip(models, demands, strict=True)
    ]
    return card, *gigabytes, *images


def batch_of(model: Counted, wanted: int) -> int:
    """Bytes of the largest batch that is worth while, of images as large as they may be."""
    whole, rest = divmod(wanted, model.tokens)
    return model.memory.predict([model.tokens] * whole + [rest])


def images_of(model: Counted, available: int, wanted: int) -> int:
    """Large images in a batch that may take so many bytes."""
    budget = make_budget(model.memory, available, wanted)
    assert budget.memory_bytes is not None
    by_memory = budget.memory_bytes // model.memory.cost(model.tokens)
    return min(budget.tokens // model.tokens, by_memory)


def table() -> str:
    """As Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(row(card) for card in CARDS)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


if __name__ == "__main__":
    print(table())
    for name in MODELS:
        print(name, counted(name), f"{batch_of(counted(name), ENOUGH_TOKENS['cuda']) / 1e9:.2f} GB")
