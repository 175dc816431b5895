"""Compile the kernels ahead of start-up: ``python docker/fill_caches.py DEVICE ARCH…``.

For a CPU these are Numba's kernels, compiled for the instruction set of this machine; another kind
of processor compiles them again. For GPUs these are Triton's kernels for each architecture (90 is
compute capability 9.0). No GPU is needed: models on PyTorch's meta device launch what they would
launch on a GPU, and each launch ends when its kernel is compiled.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from vimserve.kernels import dispatch, triton_config
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_model, resolve
from vimserve.model.families import build

EMBEDDED = ("demo", "demo-seg", "demo-det")
PUBLISHED = (
    "vim-tiny", "vim-small", "vim-base", "videomamba-middle",
    "vim-tiny-upernet", "vim-small-upernet", "vim-tiny-cascade",
)  # fmt: skip
DTYPE = torch.bfloat16  # the default on a GPU
# Sides of images in pixels, one for each schedule of the scan on a GPU with 132 multiprocessors, as
# an H100 has.
SIDES, MULTIPROCESSORS = (224, 1248), 132


def fill_numba() -> None:
    """Run the embedded models on this CPU."""
    for name in EMBEDDED:
        load_model(name).warm_up()


def fill_triton(architecture: int) -> int:
    """Compile the published models' kernels for one architecture; returns their number."""
    with compiling_only(architecture) as compiled:
        for name in PUBLISHED:
            config = resolve(name).config
            with torch.device("meta"):
                model = build(config).to(DTYPE).eval()
            for side in SIDES:
                grid = (side // config.stride, side // config.stride)
                pixels = torch.empty(
                    grid[0] * grid[1], 3 * config.patch_size**2, dtype=torch.uint8, device="meta"
                )
                batch = PackedBatch(pixels, (grid,))
                model.answer(batch, [model.whole((side, side))])
    return len(compiled)


@contextmanager
def compiling_only(architecture: int) -> Iterator[set[Any]]:
    """While it is active, a kernel launch compiles the kernel for ``architecture`` and ends.

    Yields:
        The hashes of the compiled kernels.
    """
    compiled: set[Any] = set()
    run = JITFunction.run

    def compile_only(kernel: Any, *args: Any, **options: Any) -> Any:
        binary = run(kernel, *args, **options | {"warmup": True})
        compiled.add(binary.hash)
        return binary

    target = mock.Mock()
    target.get_current_target.return_value = GPUTarget("cuda", architecture, 32)
    target.get_current_device.return_value = architecture
    driver.set_active(target)
    dispatch.implementation.cache_clear()
    with (
        mock.patch.object(JITFunction, "run", compile_only),
        mock.patch.object(triton_config, "_multiprocessors", return_value=MULTIPROCESSORS),
        mock.patch.dict(os.environ, {dispatch.VARIABLE: "triton"}),
    ):
        yield compiled


def main(arguments: Sequence[str]) -> None:
    """Fill the caches that ``NUMBA_CACHE_DIR`` and ``TRITON_CACHE_DIR`` name."""
    device, *architectures = arguments
    fill_numba()
    if device == "cuda":
        for architecture in map(int, architectures):
            print(f"sm_{architecture}: {fill_triton(architecture)} kernels", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
