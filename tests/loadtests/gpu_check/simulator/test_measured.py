"""Reports of gpu_check find their predictions."""

from typing import Any

import pytest

from vimserve.loadtests.gpu_check.simulator.cards import CARDS
from vimserve.loadtests.gpu_check.simulator.measured import comparison, kernel, measured_card

MACHINE = {"device": "NVIDIA H100 80GB HBM3", "multiprocessors": 132}
RATES = {"copy_bytes_per_s": 3e12, "special_per_s": 16 * 132 * 1.7e9, "product_flops": 7e14}
ROWS: dict[str, Any] = {
    "machine": [MACHINE, RATES],
    "kernels": [{"job": "conv1d vim-tiny 32 x 197", "ms": 0.01}],
    "models": [
        {"job": "deit-tiny 224 one", "model": "deit-tiny", "size": 224, "images": 1,
         "mode": "graphs", "ms": 0.4},
        {"job": "deit-tiny 224 one", "model": "deit-tiny", "size": 224, "images": 1,
         "mode": "eager", "ms": 2.5},
        {"job": "deit-tiny 224 many", "model": "deit-tiny", "size": 224, "images": 4096,
         "mode": "eager", "stopped": "out of memory"},
        {"job": "resnet 224 one", "model": "resnet", "size": 224, "images": 1, "mode": "eager",
         "ms": 1.0},
    ],
}  # fmt: skip


def test_rows_with_a_time_are_compared() -> None:
    made = {label: (predicted, s) for label, predicted, s in comparison({"rows": ROWS})}

    assert list(made) == [
        "conv1d vim-tiny 32 x 197", "deit-tiny 224 x 1 graphs", "deit-tiny 224 x 1 eager",
    ]  # fmt: skip
    predicted, seconds = made["deit-tiny 224 x 1 graphs"]
    assert seconds == pytest.approx(4e-4)
    assert predicted.low < predicted.high < made["deit-tiny 224 x 1 eager"][0].high


def test_reports_of_the_first_format_are_compared() -> None:
    report = {
        "machine": MACHINE,
        **RATES,
        "kernels": [{"kernel": "add_norm", "model": "vim-tiny", "sequences": "1 x 6085",
                     "ms": 0.01}],
        "models": [{"model": "vim-tiny", "size": 224, "batch": 1, "mode": "eager", "ms": 3.0}],
    }  # fmt: skip

    assert [label for label, *_ in comparison(report)] == [
        "add_norm vim-tiny 1 x 6085", "vim-tiny 224 x 1 eager",
    ]  # fmt: skip


def test_measured_rates_replace_the_documents() -> None:
    card = measured_card({"rows": ROWS})

    assert card.clock_hz == pytest.approx(1.7e9)
    assert (card.bytes_per_s, card.tensor_flops) == (3e12, 7e14)
    assert measured_card({"machine": MACHINE}) == CARDS["H100"]


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
    ],
)
def test_cards_are_known_by_their_names(device: str, name: str) -> None:
    assert measured_card({"machine": {"device": device}}) == CARDS[name]


def test_an_unknown_card_is_an_error() -> None:
    with pytest.raises(ValueError, match="no card 'NVIDIA L40S'"):
        measured_card({"machine": {"device": "NVIDIA L40S"}})


def test_a_model_without_the_kernel_is_an_error() -> None:
    with pytest.raises(TypeError, match="deit-tiny has no conv1d"):
        kernel("conv1d", "deit-tiny", "1 x 197", CARDS["H100"])
