import pytest
import torch

from tests.closeness import assert_close
from tests.kernels.cases import RAGGED, scan_inputs
from vimserve.kernels.selective_scan import cpu, naive

DIRECTIONS = {"ahead": (False,), "back": (True,), "both": (False, True)}


@pytest.mark.parametrize("reverse", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("lengths", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize(("E", "S", "R"), [(32, 16, 2), (48, 8, 3), (144, 16, 12)])
def test_cpu_matches_reference(
    lengths: list[int], reverse: tuple[bool, ...], E: int, S: int, R: int
) -> None:
    inputs = scan_inputs(lengths, E, S, R, len(reverse))

    actual = cpu.selective_scan(**inputs, reverse=reverse)

    expected = naive.selective_scan(**inputs, reverse=reverse)
    assert_close("out", actual, expected, atol=2e-6 * expected.abs().max().item())


def test_directions_may_share_their_inputs() -> None:
    inputs = scan_inputs([9, 30], 32, 16, 2, 1)
    shared = {
        k: v if k in ("z", "cu_seqlens") else v.expand(2, *v.shape[1:]) for k, v in inputs.items()
    }
    both = (False, True)

    actual = cpu.selective_scan(**shared, reverse=both)

    ahead, back = (naive.selective_scan(**inputs, reverse=(way,)) for way in both)
    assert_close("out", actual, ahead + back, atol=1e-5)


def test_extreme_steps_stay_finite() -> None:
    inputs = scan_inputs([40], 32, 16, 2, 1)
    inputs["dt_bias"] = torch.linspace(-200, 200, 32)[None]

    actual = cpu.selective_scan(**inputs, reverse=(False,))

    expected = naive.selective_scan(**inputs, reverse=(False,))
    assert_close("out", actual, expected, atol=2e-6 * expected.abs().max().item())


def test_number_of_threads_changes_nothing() -> None:
    inputs = scan_inputs([100, 33], 96, 16, 6, 2)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        results.append(cpu.selective_scan(**inputs, reverse=(False, True)))
    torch.set_num_threads(threads)

    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_other_dtypes_are_refused_with_the_remedy() -> None:
    inputs = scan_inputs([4], 32, 16, 2, 1) | {"x": torch.zeros(1, 4, 32, dtype=torch.bfloat16)}

    with pytest.raises(ValueError, match=r"x is torch\.bfloat16.*dtype=torch\.float32"):
        cpu.selective_scan(**inputs, reverse=(False,))
