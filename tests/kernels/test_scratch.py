"""Numba frees an array after the last place that names it, whatever pointers to it are left."""

from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core import ir
from numba.core.compiler import run_frontend

from vimserve.kernels.selective_scan.cpu import scan_tasks
from vimserve.kernels.simd import pointer
from vimserve.kernels.vim_blocks.cpu import _project_tasks


def freed_too_early(function):
    """The arrays that are freed before the first loop although their address is taken."""
    blocks = run_frontend(function.py_func, emit_dels=True).blocks
    statements = [statement for block in blocks.values() for statement in block.body]
    assigned = [one for one in statements if isinstance(one, ir.Assign)]
    takers = {
        one.target.name
        for one in assigned
        if isinstance(one.value, ir.Global) and one.value.name == "pointer"
    }
    pointed_at = {
        one.value.args[0].name
        for one in assigned
        if isinstance(one.value, ir.Expr) and one.value.op == "call"
        if one.value.func.name in takers
    }
    assert pointed_at
    freed = {one.value for one in blocks[min(blocks)].body if isinstance(one, ir.Del)}
    return {name for name in pointed_at & freed if not name.startswith("$")}


@pytest.mark.parametrize("function", [scan_tasks, _project_tasks])
def test_scratch_lives_as_long_as_the_pointers_to_it(function):
    assert not freed_too_early(function)


def test_scratch_that_is_freed_too_early_is_found():
    @njit
    def careless(n):
        scratch = np.empty(n, dtype=np.float32)
        at: Any = pointer(scratch)  # type: ignore[call-arg]
        for i in range(n):
            at[i] = 0

    assert freed_too_early(careless) == {"scratch"}
