"""What a forward pass does on a GPU: the model's own code, run on tensors without memory.

Nothing is repeated here of what a model computes. PyTorch's device ``meta`` runs the shapes alone;
every PyTorch operation is noted with its bytes and floating-point operations, and every Triton
launch with its arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from vimserve.loadtests.gpu_check.simulator.launches import Launch, recorded
from vimserve.model.batch import PackedBatch
from vimserve.model.config import DeiTConfig, VimConfig
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.vim.model import Block, Vim
from vimserve.model.layout import Layout
from vimserve.model.packed import PackedModel

aten = torch.ops.aten
META = torch.device("meta")
# Views and allocations, which launch nothing.
FREE = frozenset((
    "alias", "as_strided", "chunk", "detach", "detach_", "empty", "empty_like", "expand", "flatten",
    "lift_fresh", "permute", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze",
    "t", "transpose", "unbind", "unflatten", "unsqueeze", "view", "tensor_split", "mT", "numpy_T",
))  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """A PyTorch operation.

    Attributes:
        name: as ``linear``.
        shape: of the result.
        bytes: of its operands and results.
        flops: of matrix products.
        special: exponentials.
    """

    name: str
    shape: tuple[int, ...]
    bytes: int
    flops: int = 0
    special: int = 0


Step = Launch | Operation


def forward(
    config: VimConfig | DeiTConfig, images: int, size: int, dtype: torch.dtype, multiprocessors: int
) -> list[Step]:
    """The steps of a forward pass over square images of ``size`` pixels, in order."""
    rows = size // config.patch_size
    patches = torch.empty(
        images * rows * rows, 3 * config.patch_size**2, dtype=torch.uint8, device=META
    )
    batch = PackedBatch(patches, ((rows, rows),) * images)
    model = _model(config, dtype)
    return steps(lambda: model(batch), multiprocessors)


def block(
    config: VimConfig, lengths: Sequence[int], dtype: torch.dtype, multiprocessors: int
) -> list[Step]:
    """The steps of one of Vim's blocks over sequences of these lengths."""
    tokens = sum(lengths)
    with META:
        layer = Block(config).to(dtype)
        hidden = torch.empty(tokens, config.width, dtype=dtype)
        boundaries = torch.empty(2 * len(lengths) + 1, dtype=torch.int32)
        residual = torch.empty(tokens, config.width)
    layout = Layout.view(boundaries, len(lengths), tuple(lengths))
    return steps(lambda: layer(hidden, residual, layout), multiprocessors)


def steps(run: Callable[[], object], multiprocessors: int) -> list[Step]:
    """What ``run`` does the second time, when what models keep has been prepared."""
    made: list[Step] = []
    with torch.inference_mode(), recorded(made.append, multiprocessors):
        run()
        made.clear()
        with _Operations(made.append):
            run()
    return made


def _model(config: VimConfig | DeiTConfig, dtype: torch.dtype) -> PackedModel:
    with META:
        model: PackedModel = Vim(config) if isinstance(config, VimConfig) else DeiT(config)
    return model.to(dtype).eval()


class _Operations(TorchDispatchMode):
    """Hands every operation that launches something to ``each``."""

    def __init__(self, each: Callable[[Operation], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._each = each

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        if func is aten.bmm.dtype:  # has no implementation without a GPU
            a, b, dtype = args
            out = torch.empty(*a.shape[:2], b.shape[2], dtype=dtype, device=META)
        else:
            out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        inputs, outputs = _tensors((args, kwargs)), _tensors(out)
        unchanged = name == "to" and outputs[0] is inputs[0]
        if name not in FREE and not unchanged:
            self._each(_operation(name, inputs, outputs))
        return out


def _operation(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> Operation:
    moved = sum(tensor.numel() * tensor.itemsize for tensor in (*inputs, *outputs))
    shape = tuple(outputs[0].shape)
    if name == "index_select":
        moved = 2 * outputs[0].numel() * outputs[0].itemsize
    flops = special = 0
    if name in ("linear", "mm", "addmm", "bmm", "matmul"):
        flops = 2 * inputs[0].shape[-1] * outputs[0].numel()
    elif name == "scaled_dot_product_attention":
        query, key = inputs[0], inputs[1]
        special = query.numel() // query.shape[-1] * key.shape[-2]
        flops = 4 * special * query.shape[-1]
    return Operation(name, shape, moved, flops, special)


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
