"""Predict times on a GPU from machine code and shapes: ``python -m ...gpu_check.simulator``."""

import argparse
import sys
from collections.abc import Sequence

from vimserve.loadtests.gpu_check.simulator.cards import CARDS, Card
from vimserve.loadtests.gpu_check.simulator.launches import Launch
from vimserve.loadtests.gpu_check.simulator.sass import disassemble, exponentials, usage
from vimserve.loadtests.gpu_check.simulator.scoreboard import cycles_per_round, occupancy
from vimserve.loadtests.gpu_check.simulator.trace import forward
from vimserve.model.config import VIM_SMALL, VIM_TINY

MODELS = {"vim-tiny": VIM_TINY, "vim-small": VIM_SMALL}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the cycles of the scan's loops.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="sm_90")
    options = parser.parse_args(arguments)
    architecture = int(options.arch.removeprefix("sm_"))
    card = next(
        (card for card in CARDS.values() if card.architecture == architecture), CARDS["H100"]
    )
    for model, config in MODELS.items():
        seen = {}
        for step in forward(config, 1, 1248, card.dtype, card.multiprocessors):
            if isinstance(step, Launch) and step.name.startswith("_walk"):
                seen.setdefault(step.name, step)
        for step in seen.values():
            print_loop(model, step, card, architecture)
    return 0


def print_loop(model: str, launch: Launch, card: Card, architecture: int) -> None:
    cubin = launch.cubin(architecture)
    used = usage(cubin)
    loop = disassemble(cubin).hot_loop()
    resident = card.resident_programs(launch.warps, used.registers, used.shared_bytes)
    print(
        f"{model} {launch.name} sm_{architecture}: {used.registers} registers, {used.stack_bytes} "
        f"bytes spilled, {resident * launch.warps // 4} warps a scheduler, {len(loop)} "
        f"instructions, {exponentials(loop)} exponentials"
    )
    busy = occupancy(loop, card.units)
    print("  floors of one warp:", ", ".join(f"{unit} {n:.0f}" for unit, n in busy.items()))
    print("  cycles a token, warps   1      2      3      4      5")
    for name, latency in (("L1", 33), ("L2", card.l2_latency), ("memory", card.memory_latency),
                          ("memory busy", 800)):  # fmt: skip
        row = [cycles_per_round(loop, warps, latency, card.units) for warps in range(1, 6)]
        print(f"    {name:<14} {latency:>4}" + "".join(f"{cycles:>7.0f}" for cycles in row))


if __name__ == "__main__":
    sys.exit(main())
