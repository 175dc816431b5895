"""A model on the meta device, which takes every turn that a GPU takes and computes nothing.

There, what a host can only know by waiting for the device (the value of a tensor, the number of
its nonzero elements) is an error. The kernels are replaced by what they allocate.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families import build
from vimserve.model.served import ServedModel

META = torch.device("meta")


@contextmanager
def stubbed_kernels() -> Iterator[None]:
    """The operations as the GPU's kernels allocate: directions side by side, float32 residual."""

    def add_norm(hidden: Tensor, residual: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
        if residual is None:
            residual = torch.empty_like(hidden, dtype=torch.float32)
        return torch.empty_like(hidden), residual

    def conv1d(x: Tensor, weight: Tensor, bias: Tensor, _: Tensor, reverse: Sequence[bool]):
        return x.new_empty(len(reverse), *x.shape)

    def selective_scan(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x.new_empty(x.shape[1], x.shape[0] * x.shape[2])

    def upsample_add(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x

    def nms(_: Tensor, order: Tensor, *__: Any) -> Tensor:
        return torch.empty_like(order, dtype=torch.bool)

    def roi_align(maps: Sequence[Tensor], *given: Any) -> Tensor:
        *_, boxes, _, _, size = given
        return maps[0].new_empty(len(boxes), size, size, maps[0].shape[1])

    with pytest.MonkeyPatch.context() as patch:
        for part in ("rpn", "detections"):
            patch.setattr(f"vimserve.model.families.cascade.{part}.nms", nms)
        patch.setattr("vimserve.model.families.cascade.pyramid.roi_align", roi_align)
        patch.setattr("vimserve.model.families.upernet.head.upsample_add", upsample_add)
        patch.setattr("vimserve.model.families.vim.model.add_norm", add_norm)
        patch.setattr("vimserve.model.families.vim.mixer.conv1d", conv1d)
        patch.setattr("vimserve.model.families.vim.mixer.selective_scan", selective_scan)
        yield


def meta_model(config: ModelConfig, dtype: torch.dtype) -> ServedModel:
    with META:
        return build(config).to(dtype).eval()


def meta_batch(config: ModelConfig, grids: Sequence[tuple[int, int]]) -> PackedBatch:
    patches = sum(rows * cols for rows, cols in grids)
    pixels = torch.empty(patches, 3 * config.patch_size**2, dtype=torch.uint8, device=META)
    return PackedBatch(pixels, tuple(grids))


class Operations(TorchDispatchMode):
    """Collects the names of all that runs, and what crosses from the host or to it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.by_mask: list[str] = []
        self.to_device: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.to_host: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = str(func.overloadpacket), kwargs or {}
        result = func(*args, **kwargs)
        given, made = _tensors((args, kwargs)), _tensors(result)
        self.names.append(name)
        if "index" in name and any(t.dtype in (torch.bool, torch.uint8) for t in given):
            self.by_mask.append(name)
        if any(t.device != META for t in given) and any(t.device == META for t in made):
            self.to_device.append((name, args, kwargs))
        if any(t.device == META for t in given) and any(t.device != META for t in made):
            self.to_host.append(name)
        return result


class LiveBytes(TorchDispatchMode):
    """Counts the bytes that operations allocate on the meta device, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        old = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if tensor.device == META and storage._cdata not in old:
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return result

    def _change(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
