"""Triton launches as the public functions make them, recorded and compiled without a GPU."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from vimserve.kernels import triton_config
from vimserve.kernels.dispatch import VARIABLE

# Triton's names.
DTYPE_NAMES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int32: "i32",
    torch.uint8: "u8",
}


@dataclass(frozen=True)
class Launch:
    """A kernel, its arguments and launch options by name, and its grid of programs."""

    kernel: Any
    arguments: dict[str, Any]
    grid: tuple[int, ...]

    @property
    def name(self) -> str:
        """The kernel's."""
        return self.kernel.__name__

    @property
    def programs(self) -> int:
        """All of the grid."""
        count = 1
        for axis in self.grid:
            count *= axis
        return count

    @property
    def warps(self) -> int:
        """Of a program."""
        return self.arguments["num_warps"]

    @property
    def fixed(self) -> tuple[object, ...]:
        """All that its machine code depends on, for one architecture."""
        variable = {p.name for p in self.kernel.params if not p.is_constexpr}
        return tuple(
            (name, value.dtype, value.data_ptr() % 16 == 0) if isinstance(value, torch.Tensor)
            else (name, value)
            for name, value in self.arguments.items()
            if isinstance(value, torch.Tensor) or name not in variable
        )  # fmt: skip

    def cubin(self, architecture: int) -> bytes:
        """The machine code for an architecture, as 90; Triton caches it on disk."""
        parameters = {p.name: p for p in self.kernel.params}
        signature, constants, attributes = {}, {}, {}
        for i, name in enumerate(self.kernel.arg_names):
            value = self.arguments[name]
            if parameters[name].is_constexpr or value is None:
                signature[name], constants[i,] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                signature[name] = f"*{DTYPE_NAMES[value.dtype]}"
                if value.data_ptr() % 16 == 0:
                    attributes[i,] = [["tt.divisibility", 16]]
            elif isinstance(value, float):
                signature[name] = "fp32"
            else:
                assert parameters[name].do_not_specialize, f"{name} makes a kernel for every value"  # noqa: S101
                signature[name] = parameters[name].annotation_type or "i32"
        options = {name: value for name, value in self.arguments.items() if name not in parameters}
        source = ASTSource(self.kernel, signature, constants, attributes)
        return triton.compile(source, GPUTarget("cuda", architecture, 32), options).asm["cubin"]


@contextlib.contextmanager
def recorded(each: Callable[[Launch], None], multiprocessors: int) -> Iterator[None]:
    """Within this, Triton's launches are handed to ``each`` instead of being made.

    Operands are on the device ``meta``, or on a CPU if the Triton implementation is called by name.
    Schedules are chosen for a GPU with so many multiprocessors.
    """

    def record(
        kernel: Any, *args: Any, grid: Sequence[int], warmup: bool, **kwargs: Any  # noqa: ARG001
    ) -> None:  # fmt: skip
        named = dict(zip(kernel.arg_names, args, strict=False)) | kwargs
        each(Launch(kernel, named, tuple(grid)))

    with (
        mock.patch.dict(os.environ, {VARIABLE: "triton"}),
        mock.patch.object(JITFunction, "run", record),
        mock.patch.object(triton_config, "_multiprocessors", return_value=multiprocessors),
    ):
        yield
