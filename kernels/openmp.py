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
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from llvmlite import binding, ir
from numba import cfunc, njit, types
from numba.extending import intrinsic
from torch import Tensor

from vimserve.kernels.simd import shifted

logger = logging.getLogger(__name__)

# Rounds of waiting, some tens of microseconds, before the core is offered to other threads.
SPINS = 500

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
        packed = array("q", [0, tasks, *addresses(arguments)])
        address, _ = packed.buffer_info()
        threads = torch.get_num_threads()
        parallel = _gomp_parallel() if min(threads, tasks) > 1 else None
        if parallel is None:
            self._serial(address)
        else:
            parallel(self._entry, address, threads, 0)


def addresses(arguments: Iterable[Tensor | int]) -> list[int]:
    """Arguments as task loops read them."""
    return [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]


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
def _count(_context, counter):
    """Add one, so that whoever reads the number sees all that was written before."""

    def codegen(context, builder, _signature, args):
        builder.atomic_rmw("add", args[0], ir.Constant(ir.IntType(64), 1), "seq_cst")
        return context.get_dummy_value()

    return types.none(counter), codegen


@intrinsic
def read(_context, counter):
    """The number of a counter, with all that was written before it was counted."""

    def codegen(_context, builder, _signature, args):
        return builder.load_atomic(args[0], "seq_cst", align=8)

    return types.int64(counter), codegen


@intrinsic
def _yield_core(_context):
    """Let another thread run if one waits for this core (POSIX's ``sched_yield``)."""

    def codegen(_context, builder, _signature, _args):
        function_type = ir.FunctionType(ir.IntType(32), [])
        function = builder.module.globals.get("sched_yield") or ir.Function(
            builder.module, function_type, "sched_yield"
        )
        return builder.call(function, [])

    return types.int32(), codegen


@intrinsic
def _pause(_context):
    """Tell the processor that this is a loop that waits, where there is an instruction for it."""

    def codegen(context, builder, _signature, _args):
        if binding.get_default_triple().startswith("x86_64"):
            function_type = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            function = builder.module.globals.get(name) or ir.Function(
                builder.module, function_type, name
            )
            builder.call(function, [])
        return context.get_dummy_value()

    return types.none(), codegen


@njit
def enter(gate):
    """Begin to take tasks of a step whose ``gate`` is two counters, zero at first."""
    _count(gate)


@njit
def leave(gate):
    """Having found no task left, wait until no thread is doing one.

    Threads that have not begun with the step are not waited for: they will find no task either.
    """
    left = shifted(gate, 1)
    _count(left)
    rounds = 0
    while read(left) < read(gate):
        rounds += 1
        if rounds % SPINS == 0:
            _yield_core()
        else:
            _pause()


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
def longs(_context, address):
    """An array's address as a pointer to int64."""

    def codegen(_context, builder, _signature, args):
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(address), codegen


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
