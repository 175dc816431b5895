"""Predictions beside the measurements of a report of ``gpu_check``."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from vimserve.loadtests.gpu_check.simulator.cards import CARDS, SPECIAL_LANES, Card
from vimserve.loadtests.gpu_check.simulator.launches import Launch
from vimserve.loadtests.gpu_check.simulator.predict import Range, on_device, on_host
from vimserve.loadtests.gpu_check.simulator.trace import Step, block, forward
from vimserve.model.config import DEIT_SMALL, DEIT_TINY, VIM_SMALL, VIM_TINY, DeiTConfig, VimConfig

MODELS: dict[str, VimConfig | DeiTConfig] = {
    "vim-tiny": VIM_TINY,
    "vim-small": VIM_SMALL,
    "deit-tiny": DEIT_TINY,
    "deit-tiny-eager": replace(DEIT_TINY, attention="eager"),
    "deit-small": DEIT_SMALL,
}
KERNELS = {
    "selective_scan": ("walk_states", "carry", "walk_outputs"),
    "conv1d": ("_convolve",),
    "add_norm": ("_add_norm",),
}
KERNEL_JOB = re.compile(r"(?P<kernel>\w+) (?P<model>[\w-]+) (?P<sequences>\d+ x \d+)$")


def comparison(report: Mapping[str, Any]) -> Iterator[tuple[str, Range, float]]:
    """What was measured, its predicted range and its measured seconds.

    Rows that no prediction is made for are left out.

    Raises:
        ValueError: if the report is of a card that is not known.
    """
    card = measured_card(report)
    for row in _rows(report):
        if "ms" not in row or row.get("model") not in (None, *MODELS):
            continue
        if isinstance(row.get("size"), int) and row.get("mode") in ("eager", "graphs"):
            images = row.get("images", row.get("batch"))
            label = f"{row['model']} {row['size']} x {images} {row['mode']}"
            config = MODELS[row["model"]]
            steps = forward(config, images, row["size"], card.dtype, card.multiprocessors)
            yield label, _pass(steps, row["mode"], card), 1e-3 * row["ms"]
        elif job := KERNEL_JOB.match(row.get("job", _old_job(row))):
            name, model, sequences = job["kernel"], job["model"], job["sequences"]
            if name in KERNELS and model in MODELS:
                yield job[0], kernel(name, model, sequences, card), 1e-3 * row["ms"]


def kernel(name: str, model: str, sequences: str, card: Card) -> Range:
    """The predicted seconds of an operation over, say, ``32 x 197`` tokens."""
    count, length = (int(number) for number in sequences.split(" x "))
    config = MODELS[model]
    if not isinstance(config, VimConfig):
        raise TypeError(f"{model} has no {name}")
    steps = block(config, [length] * count, card.dtype, card.multiprocessors)
    of_it = [step for step in steps if isinstance(step, Launch) and step.name in KERNELS[name]]
    return on_device(of_it, card)


def measured_card(report: Mapping[str, Any]) -> Card:
    """The report's card, with the rates that were measured of it.

    Raises:
        ValueError: if the card is not known.
    """
    device = next(str(row["device"]) for row in _rows(report) if "device" in row)
    name = next((name for name in CARDS if re.search(rf"\b{name}\b", device)), None)
    if name is None:
        raise ValueError(f"no card {device!r} among {', '.join(CARDS)}")
    card = CARDS[name]
    for row in _rows(report):
        if "special_per_s" in row:
            clock_hz = row["special_per_s"] / (SPECIAL_LANES * card.multiprocessors)
            flops = row.get("product_flops", card.tensor_flops)
            rate = row["copy_bytes_per_s"]
            return replace(card, clock_hz=clock_hz, bytes_per_s=rate, tensor_flops=flops)
    return card


def _pass(steps: list[Step], mode: str, card: Card) -> Range:
    device, host = on_device(steps, card), on_host(steps)
    if mode == "graphs":
        return device
    return Range(max(device.low, host.low), max(device.high, host.high))


def _rows(report: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in the report, however deep."""
    if isinstance(report, Mapping):
        yield report
    for value in report.values() if isinstance(report, Mapping) else report:
        if isinstance(value, Mapping | list):
            yield from _rows(value)


def _old_job(row: Mapping[str, Any]) -> str:
    return f"{row.get('kernel')} {row.get('model')} {row.get('sequences')}"
