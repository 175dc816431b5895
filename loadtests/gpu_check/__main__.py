"""Check and measure Vim on a GPU: ``python -m vimserve.loadtests.gpu_check``.

First every kernel and the whole model are compared with float32 and the published outputs; only if
all of that is right are speeds measured, printed and written. Needs torch, triton, numpy and
pillow, nothing of the server.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch

DEFAULT_REPORT = Path(__file__).parents[1] / "results" / "gpu_check.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 if a gate is red, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.gpu_check", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "report", nargs="?", type=Path, default=DEFAULT_REPORT, help="JSON to write [%(default)s]"
    )
    parser.add_argument("--quick", action="store_true", help="Vim-Ti alone, at 224 and 1248 pixels")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("gpu_check: torch finds no CUDA device on this machine", file=sys.stderr)
        return 2
    # The references shall be float32 in earnest, not TF32.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # Here, because the kernels of a GPU cannot even be imported everywhere.
    from vimserve.loadtests.gpu_check import gates, measure

    report: dict[str, Any] = {"machine": describe_machine(), "quick": options.quick}
    print("  ".join(f"{key}: {value}" for key, value in report["machine"].items()), flush=True)
    start = time.monotonic()
    green = pass_gates(report, chain(gates.kernel_gates(), gates.model_gates()))
    print(f"{len(report['gates'])} gates in {time.monotonic() - start:.0f} s", flush=True)
    if green:
        report |= measure.everything(quick=options.quick)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=1) + "\n")
    if not green:
        print("gpu_check: a gate is red, so no speed is measured", file=sys.stderr)
    return 0 if green else 1


def pass_gates(report: dict[str, Any], gates: Iterable[Any]) -> bool:
    """Add the gates to the report, print the red ones, say whether there was none."""
    red = 0
    for gate in gates:
        report.setdefault("gates", []).append({**asdict(gate), "green": gate.green})
        if not gate.green:
            red += 1
            print(f"RED  {gate.name}: error {gate.error:.3e}, bound {gate.bound:.3e}", flush=True)
    return not red


def describe_machine() -> dict[str, str]:
    """What the figures belong to."""
    import triton

    properties = torch.cuda.get_device_properties("cuda")
    return {
        "device": properties.name,
        "capability": f"sm_{properties.major}{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "triton": triton.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
