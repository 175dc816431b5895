"""The Triton kernels' numbers without a GPU.

Triton's interpreter is chosen by a variable when Triton is imported, and a process in which it is
on cannot compile; so these checks run in processes of their own, all at once.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent / "interpreted"


def test_numbers_under_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    running = {
        path.stem: subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
            env=environment, cwd=HERE.parents[2], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for path in sorted(HERE.glob("check_*.py"))
    }  # fmt: skip
    reports = {name: process.communicate()[0] for name, process in running.items()}

    failed = [name for name, process in running.items() if process.returncode]
    assert not failed, "\n".join(reports[name] for name in failed)
