"""CPU kernels on PyTorch's own OpenMP threads.

Numba's parallel loops would start a second thread pool, whose workers wait for cores on which
PyTorch's threads still spin. Here a kernel is a Numba ``cfunc`` that takes task numbers from a
shared counter, and ``Kernel`` runs it on the threads of the OpenMP library that PyTorch has loaded.
So there is one pool, of ``torch.get_num_threads()`` threads. Any number of Python threads may call
a kernel at once, since OpenMP gives each its own team.
"""

import ctypes
import functools
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic
from torch import Tensor

logger = logging.getLogger(__name__)

_SIGNATURE = types.void(types.CPointer(types.int64))


def task_loop(function: Callable[..., None]) -> Any:
    """Compile the task loop of a ``Kernel``, or take it from Numba's cache.

    Where no cache can be written, it is compiled for this process alone, and the log says so.
    """
    try:
        return cfunc(_SIGNATURE, cache=True)(function)
    except (RuntimeError, OSError):  # no folder can be written, or there is no room in it
        compiled = cfunc(_SIGNATURE)(function)
    _say_uncached()
    return compiled


@functools.cache  # one line, not one for every kernel
def _say_uncached() -> None:
    logger.warning(
        "compiled kernels cannot be kept, so every start takes longer: "
        "set NUMBA_CACHE_DIR to a folder that can be written"
    )


class Kernel:
    """A compiled task loop and the way to call it.

    The ``cfunc`` receives ``[counter, tasks, *arguments]`` as int64 and takes task numbers with
    ``next_task`` until none is left. A tensor is passed as its address, so its strides must be
    arguments of their own.
    """

    def __init__(self, compiled: Any) -> None:
        self._entry = ctypes.c_void_p(compiled.address)
        self._serial = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled.address)

    def __call__(self, tasks: int, *arguments: Tensor | int) -> None:
        """Run ``tasks`` tasks on ``torch.get_num_threads()`` threads and wait for them.

        Where there are fewer tasks than threads, the others find none. A smaller team would be
        slower: libgomp ends the threads that a team leaves out, and the next team starts them anew.
        """
        values = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
        packed = np.array([0, tasks, *values], dtype=np.int64)
        threads = torch.get_num_threads()
        parallel = _gomp_parallel() if min(threads, tasks) > 1 else None
        if parallel is None:
            self._serial(packed.ctypes.data)
        else:
            parallel(self._entry, packed.ctypes.data, threads, 0)


@functools.cache
def _gomp_parallel() -> Callable[..., None] | None:
    """``GOMP_parallel`` of the library that PyTorch uses; None, with a warning, without one."""
    package = Path(torch.__file__).parent
    bundled = [*package.glob("lib/libgomp*"), *package.parent.glob("torch.libs/libgomp*")]
    for candidate in [*map(str, bundled), "libgomp.so.1"]:
        try:
            function = ctypes.CDLL(candidate).GOMP_parallel
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        function.restype = None
        return function
    warnings.warn("no OpenMP library found: CPU kernels run on one thread", stacklevel=2)
    return None


@intrinsic
def _take_number(_context, counter):
    def codegen(_context, builder, _signature, args):
        return builder.atomic_rmw("add", args[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def floats(_context, address):
    """A tensor argument's address as a pointer to float32."""

    def codegen(_context, builder, _signature, args):
        return builder.inttoptr(args[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(address), codegen


@intrinsic
def ints(_context, address):
    """A tensor argument's address as a pointer to int32."""

    def codegen(_context, builder, _signature, args):
        return builder.inttoptr(args[0], ir.IntType(32).as_pointer())

    return types.CPointer(types.int32)(address), codegen


@intrinsic
def octets(_context, address):
    """A tensor argument's address as a pointer to uint8."""

    def codegen(_context, builder, _signature, args):
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.CPointer(types.uint8)(address), codegen


@njit(inline="always")
def next_task(arguments):
    """The next task number, or -1 when all are taken."""
    task = _take_number(arguments)
    return task if task < arguments[1] else -1
