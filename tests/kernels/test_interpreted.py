"""The Triton kernels' numbers without a GPU.

Triton's interpreter is chosen by a variable when Triton is imported, and a process in which it is
on cannot compile; so these checks run in processes of their own, all at once.
"""

import os
import subprocess
import sys

from tests.paths import ROOT

HERE = "tests/kernels/interpreted"
RUNS = {
    "scan": [f"{HERE}/check_selective_scan.py"],
    "convolution, norm, upsampling, boxes, masks and published outputs": [
        f"{HERE}/check_conv1d.py",
        f"{HERE}/check_add_norm.py",
        f"{HERE}/check_upsample_argmax.py",
        f"{HERE}/check_upsample_add.py",
        f"{HERE}/check_roi_align.py",
        f"{HERE}/check_nms.py",
        f"{HERE}/check_paste_masks.py",
        *(
            f"tests/model/test_golden.py::test_matches_published_outputs[{name}]"
            for name in (
                "nano_v1",
                "nano_v2",
                "nano_bidirectional_layer",
                "rope_nano_96_head_cls",
                "mambareg_nano_96",
            )
        ),
    ],
}


def test_numbers_under_the_interpreter() -> None:
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "VIMSERVE_KERNELS": "triton",
        "OMP_NUM_THREADS": "1",
    }
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selection],
            env=environment, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for name, selection in RUNS.items()
    }  # fmt: skip
    reports = {name: process.communicate()[0] for name, process in running.items()}

    failed = [name for name, process in running.items() if process.returncode]
    assert not failed, "\n".join(reports[name] for name in failed)
