"""Check and measure Vim on a GPU: ``python -m vimserve.loadtests.gpu_check``.

First every kernel and the whole model are compared with float32 and with the published outputs;
only if all of that is right are speeds measured, printed and written. The published outputs are in
the repository; where they are missing, as beside an installed package, those comparisons are left
out. Needs nothing of the server, and not what the extra ``loadtest`` installs.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from vimserve.loadtests.common.checkout import commit, results_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and measure, and write the report.

    Returns:
        0, 1 if a gate is red, or 2 if nothing can be checked or written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.gpu_check", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "report", nargs="?", type=Path,
        help="JSON to write [gpu_check.json, in loadtests/results if the current folder has that]",
    )  # fmt: skip
    parser.add_argument(
        "--golden", type=Path, metavar="FOLDER",
        help="the published outputs [tests/model/golden of the repository]",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="Vim-Ti alone, at 224 and 1248 pixels")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("gpu_check: torch finds no CUDA device on this machine", file=sys.stderr)
        return 2
    file = options.report or results_folder() / "gpu_check.json"
    try:  # now, because what follows takes minutes
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        parser.error(f"the report cannot be written: {error}")
    # What is computed in float32 must not be rounded to TF32 on the way: it is the reference.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # Imported here, because the kernels for GPUs cannot be imported on every machine.
    from vimserve.loadtests.gpu_check import gates, measure

    golden = options.golden or gates.GOLDEN
    left_out = gates.left_out(golden)
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "quick": options.quick,
        "left_out": left_out,
    }
    print("  ".join(f"{key}: {value}" for key, value in report["machine"].items()), flush=True)
    if left_out:
        why = next(iter(left_out.values()))
        print(f"LEFT OUT  the published outputs of {', '.join(left_out)}: {why}", flush=True)
    start = time.monotonic()
    green = pass_gates(report, chain(gates.kernel_gates(), gates.model_gates(golden)))
    print(f"{len(report['gates'])} gates in {time.monotonic() - start:.0f} s", flush=True)
    if green:
        report |= measure.everything(quick=options.quick)
    file.write_text(json.dumps(report, indent=1) + "\n")
    if not green:
        print("gpu_check: a gate is red, so no speed is measured", file=sys.stderr)
    return 0 if green else 1


def pass_gates(report: dict[str, Any], gates: Iterable[Any]) -> bool:
    """Add the gates to the report and print the red ones.

    Returns:
        Whether all were green.
    """
    red = 0
    for gate in gates:
        report.setdefault("gates", []).append({**asdict(gate), "green": gate.green})
        if not gate.green:
            red += 1
            print(f"RED  {gate.name}: error {gate.error:.3e}, bound {gate.bound:.3e}", flush=True)
    return not red


def describe_machine() -> dict[str, str]:
    """The device and the versions that the figures were measured with."""
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
        "commit": commit(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
