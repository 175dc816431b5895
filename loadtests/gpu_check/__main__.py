"""Check and measure Vim on a GPU: ``python -m vimserve.loadtests.gpu_check``.

Every kernel and the models are compared with float32 and with the published outputs, then
everything is measured that a first run on a card can tell: the scan's schedules, Vim against DeiT,
the server's buckets, traces. A card is often had for minutes only, so the run keeps within
``--minutes``, the report is whole after every row, and what fails leaves the rest to go on. A red
gate marks the rows that depend on it. The published outputs are in the repository; where they are
missing, as beside an installed package, those comparisons are left out. Needs nothing of the extra
``loadtest``, and no FastAPI.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import torch

from vimserve.loadtests.common.checkout import results_folder
from vimserve.loadtests.common.options import positive
from vimserve.loadtests.gpu_check.report import Report

MINUTES = 9.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and measure, and write the report.

    Returns:
        0, 1 if a gate is red or something failed, or 2 if nothing can be checked or written.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    file = options.report or results_folder() / "gpu_check.json"
    try:  # now, because what follows takes minutes
        file.parent.mkdir(parents=True, exist_ok=True)
        report = Report(file, {"state": "running", "minutes": options.minutes})
    except OSError as error:
        parser.error(f"the report cannot be written: {error}")
    # What is computed in float32 must not be rounded to TF32 on the way: it is the reference.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # Imported here, because the kernels for GPUs cannot be imported on every machine.
    from vimserve.loadtests.gpu_check import plan

    golden = options.golden or plan.GOLDEN
    left_out = plan.left_out(golden)
    report.head(left_out=left_out)
    if left_out:
        why = next(iter(left_out.values()))
        report.say(f"LEFT OUT  the published outputs of {', '.join(left_out)}: {why}")
    state = "interrupted"
    try:
        with _ended_by_signals():
            state = plan.run(report, golden, 60 * options.minutes, measure=options.measure_anyway)
    except KeyboardInterrupt:
        print("gpu_check: interrupted: what was measured is kept", file=sys.stderr)
    finally:
        report.head(state=state)
    print(plan.summary(report), flush=True)
    if state == plan.NO_DEVICE:
        print(f"gpu_check: {plan.NO_DEVICE}", file=sys.stderr)
        return 2
    return 0 if state == "done" and not report.red and not report.errors else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.gpu_check", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "report", nargs="?", type=Path,
        help="JSON to write [gpu_check.json, in loadtests/results if the current folder has that]",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=positive, default=MINUTES, help="the whole run takes [%(default)s]"
    )
    parser.add_argument(
        "--golden", type=Path, metavar="FOLDER",
        help="the published outputs [tests/model/golden of the repository]",
    )  # fmt: skip
    parser.add_argument(
        "--measure-anyway", action=argparse.BooleanOptionalAction, default=True,
        help="measure after a red gate too, and mark what depends on it [on]",
    )  # fmt: skip
    return parser


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block, SIGTERM ends it as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    raise SystemExit(main())
