"""The tables of predictions, in Markdown."""

import functools
from collections.abc import Iterable, Sequence

from vimserve.kernels.triton_config import SCHEDULERS
from vimserve.loadtests.gpu_check.simulator.cards import CARDS, Card, of_architecture
from vimserve.loadtests.gpu_check.simulator.launches import Launch
from vimserve.loadtests.gpu_check.simulator.measured import KERNELS, MODELS, kernel
from vimserve.loadtests.gpu_check.simulator.predict import LOOPS, Range, compiled, on_device
from vimserve.loadtests.gpu_check.simulator.sass import exponentials
from vimserve.loadtests.gpu_check.simulator.scoreboard import cycles_per_round, occupancy
from vimserve.loadtests.gpu_check.simulator.trace import block, forward
from vimserve.model.config import VIM_SMALL, VIM_TINY, VimConfig

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
SEQUENCES = ("1 x 6085", "32 x 197", "16 x 6085")
SIZES = (224, 512, 768, 1024, 1248, 2048)
BATCHES = (1, 32)
SHOWN = ("vim-tiny", "deit-tiny", "deit-tiny-eager", "vim-small")
LONG = [6085]  # tokens, which are walked in chunks: both loops are launched


def loops(architectures: Iterable[int] = ARCHITECTURES) -> list[str]:
    """The scan's loops on each architecture: what they use, and their cycles a token."""
    head = (
        "loop", "", "registers", "spilled bytes", "warps", "instructions", "exponentials",
        "special units", "load port", "one warp, L1", "L2", "memory", "full, L1", "L2", "memory",
    )  # fmt: skip
    models = (("Vim-Ti", VIM_TINY), ("Vim-S", VIM_SMALL))
    return table(head, (
        (f"{model} `{name}`", f"sm_{architecture}", *loop(config, name, architecture))
        for model, config in models for name in LOOPS for architecture in architectures
    ))  # fmt: skip


def loop(config: VimConfig, name: str, architecture: int) -> tuple[int, ...]:
    """One row of ``loops``, without its names."""
    card = of_architecture(architecture)
    launch = next(
        step
        for step in block(config, LONG, card.dtype, card.multiprocessors)
        if isinstance(step, Launch) and step.name == name
    )
    code = compiled(launch, architecture)
    used, body = code.usage, code.program.hot_loop()
    programs = card.resident_programs(launch.warps, used.registers, used.shared_bytes)
    warps = programs * launch.warps // SCHEDULERS
    floors = occupancy(body, card.units)
    cycles = [
        round(cycles_per_round(body, count, latency, card.units))
        for count in (1, warps)
        for latency in (card.l1_latency, card.l2_latency, card.memory_latency)
    ]
    return (
        used.registers, used.stack_bytes, warps, len(body), exponentials(body),
        round(warps * floors["special"]), round(warps * floors["memory"]), *cycles,
    )  # fmt: skip


def kernels(names: Iterable[str] = CARDS) -> list[str]:
    """Predicted microseconds of Vim-Ti's operations on each card."""
    columns = [(name, shape) for name in KERNELS for shape in SEQUENCES]
    head = ("card", *(f"`{name}` {shape}" for name, shape in columns))
    return table(head, (
        (card, *(_us(kernel(name, "vim-tiny", shape, CARDS[card])) for name, shape in columns))
        for card in names
    ))  # fmt: skip


def passes(names: Iterable[str] = CARDS) -> list[str]:
    """Predicted milliseconds of forward passes on each card."""
    head = ("card", "pixels", *(f"{model} × {n}" for n in BATCHES for model in SHOWN))
    return table(head, (
        (name, f"{size}²",
         *(_ms(whole(model, images, size, CARDS[name])) for images in BATCHES for model in SHOWN))
        for name in names for size in SIZES
    ))  # fmt: skip


@functools.cache
def whole(model: str, images: int, size: int, card: Card) -> Range:
    """Seconds of a forward pass as a CUDA graph."""
    return on_device(forward(MODELS[model], images, size, card.dtype, card.multiprocessors), card)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table whose first column is text."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _ms(seconds: Range) -> str:
    """Both ends with three digits or so."""
    digits = 2 if seconds.high < 10e-3 else 1 if seconds.high < 100e-3 else 0
    return format(seconds, f".{digits}f")


def _us(seconds: Range) -> str:
    return f"{1e6 * seconds.low:.0f}–{1e6 * seconds.high:.0f}"
