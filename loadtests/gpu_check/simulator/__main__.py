"""Predict times on GPUs: ``python -m vimserve.loadtests.gpu_check.simulator``.

Needs no GPU, but Triton and its tools, which exist for Linux. What is predicted, and how well, is
said in ``docs/gpu.md``.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vimserve.loadtests.gpu_check.simulator import page, tables
from vimserve.loadtests.gpu_check.simulator.cards import CARDS
from vimserve.loadtests.gpu_check.simulator.measured import comparison
from vimserve.loadtests.gpu_check.simulator.predict import Range


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write predictions.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(
        prog=page.COMMAND, description=(__doc__ or "").partition("\n")[0]
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--arch", nargs="+", type=_architecture, metavar="sm_90",
        help="registers and cycles of the scan's loops on these architectures, and nothing else",
    )  # fmt: skip
    what.add_argument(
        "--card", nargs="+", choices=CARDS, metavar="NAME",
        help=f"operations and passes on these cards [{', '.join(CARDS)}]",
    )  # fmt: skip
    what.add_argument(
        "--report", type=Path, help="a report of gpu_check: predictions beside measurements"
    )
    what.add_argument("--page", type=Path, help="write all tables to this page's section")
    options = parser.parse_args(arguments)
    if options.page:
        page.write(options.page)
    elif options.report:
        _print(beside(json.loads(options.report.read_text())))
    elif options.arch:
        _print(tables.loops(options.arch))
    else:
        cards = options.card or tuple(CARDS)
        _print([*tables.kernels(cards), "", *tables.passes(cards)])
    return 0


def beside(report: Any) -> list[str]:
    """A report's measurements with their predictions, in milliseconds."""
    rows = [
        (label, f"{predicted:.3f}", f"{1e3 * seconds:.3f}", _verdict(predicted, seconds))
        for label, predicted, seconds in comparison(report)
    ]
    within = sum(verdict == "within" for *_, verdict in rows)
    lines = tables.table(("", "predicted ms", "measured ms", ""), rows)
    return [*lines, "", f"{within} of {len(rows)} measurements are within the prediction"]


def _verdict(predicted: Range, seconds: float) -> str:
    if seconds in predicted:
        return "within"
    if seconds < predicted.low:
        return f"{seconds / predicted.low:.2f} × the low end"
    return f"{seconds / predicted.high:.2f} × the high end"


def _architecture(text: str) -> int:
    return int(text.removeprefix("sm_"))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
