"""What tensors hold at most during a block, to the byte, whatever an allocator makes of it."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """``with LiveBytes() as meter: ...``, then ``meter.bytes``; stands in for a ``PeakMeter``."""

    def __init__(self, _device: object = None, _held: object = None) -> None:
        super().__init__()
        self.bytes = self._held = 0
        self._known: dict[int, Any] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        _types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, num_bytes = storage._cdata, storage.nbytes()
        if key not in self._known:

            def drop(_: object) -> None:
                del self._known[key]
                self._held -= num_bytes

            self._known[key] = weakref.ref(storage, drop)
            self._held += num_bytes
            self.bytes = max(self.bytes, self._held)
