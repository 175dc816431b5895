"""Every kernel that serving can launch compiles without spills, and the scan's loop is short."""

import re

import pytest
import torch
import triton

from kernels.selective_scan import triton as scan
from tests.kernels.resources import (
    ARCHITECTURES,
    CASES,
    TABLE,
    Case,
    compile_case,
    hot_loop,
    table,
    usages,
)

# Not the code under test, but what it leaves out: see test_cost_of_a_state.
pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")


def test_no_kernel_spills() -> None:
    reports = usages()

    assert len(reports) == len(CASES) * len(ARCHITECTURES)
    spilling = {key: use for key, use in reports.items() if use.stack_bytes}
    assert not spilling
    # Turing, the oldest architecture served, lends a program 64 KiB.
    assert max(use.shared_bytes for use in reports.values()) <= 64 * 1024
    if f"Triton {triton.__version__};" in TABLE.read_text():
        assert TABLE.read_text() == table(reports), "run python -m tests.kernels.resources"
