"""The tables at the end of a run: the best of each kind, and everything that is wrong."""

from vimserve.loadtests.gpu_check.gates import Gate
from vimserve.loadtests.gpu_check.sections import Row
from vimserve.loadtests.gpu_check.summary import lines


def model(images: int, mode: str, ms: float) -> Row:
    return {
        "job": "m", "model": "vim-tiny", "size": 224, "images": images, "mode": mode, "ms": ms,
        "images_per_s": 1e3 * images / ms, "peak_above_weights_bytes": 5_000_000 * images,
    }  # fmt: skip


def test_of_many_images_only_the_fastest_batch_is_shown() -> None:
    rows = [model(1, "eager", 8.0), model(1, "graphs", 2.0), model(2, "eager", 8.0),
            model(64, "eager", 16.0), model(128, "eager", 40.0),
            {"job": "m", "error": "no"}]  # fmt: skip
    (line,) = [line for line in lines({"models": rows}) if "vim-tiny" in line]
    assert line.split(maxsplit=2)[2] == (
        "1 eager 8.00 (125, 5); 1 graphs 2.00 (500, 5); 64 eager 16.00 (4000, 320)"
    )


def test_red_gates_and_errors_are_last() -> None:
    rows = {
        "gates a": [Gate("fine", 0, 1).row, Gate("wrong", 2.0, 1.0).row],
        "sweep": [{"job": "1 x 197", "error": "Traceback\nValueError: no"}],
    }
    *_, count, red, error = lines(rows)
    assert count == "2 gates, 1 red"
    assert red == "RED wrong: error 2.000e+00, bound 1.000e+00"
    assert error == "sweep: ERROR 1 x 197: ValueError: no"


def test_without_rows_there_are_only_titles() -> None:
    assert [line for line in lines({}) if line and not line.startswith("\n==")] == [
        "0 gates, 0 red"
    ]


def test_costs_are_lines_for_the_kernels_constants() -> None:
    costs = {"LONE_WARP": 2.26, "unit_ms": 1e-4, "mean_error": 0.1, "before": {"LONE_WARP": 2.5}}
    assert "LONE_WARP = 2.26  # was 2.5" in list(lines({"fit": [costs]}))
