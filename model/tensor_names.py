"""Names of tensors without what training wraps around a model."""

import os
from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

# What DataParallel, ``torch.compile``, FSDP and activation checkpointing call the module that they
# wrap, which may be the model or any part of it. No family has such names of its own.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def bare_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """A state dict's names, each with the name that the model itself has for that tensor.

    Wrappers' names are left out wherever they stand, and so is what stands before all names:
    Lightning calls a model after the attribute that holds it (``model.``), and so do moving
    averages of weights (``ema_model.``). No family's names all begin alike. If that changes any
    name, the counters that averages keep beside the weights (``n_averaged``) are not listed. If two
    names would become the same, none is changed.
    """
    parts = {name: [p for p in name.split(".") if p not in _WRAPPERS] for name in state}
    counters = {name for name in state if _is_counter(state[name])}
    weights = [path[:-1] for name, path in parts.items() if name not in counters]
    before = os.path.commonprefix(weights)  # noqa: RUF071  of lists, it compares their elements
    own = {
        name: ".".join(path[len(before) :])
        for name, path in parts.items()
        if path[: len(before)] == before
    }
    bare = {name: new for name, new in own.items() if "." in new or name not in counters}
    kept = all(name == new for name, new in bare.items())
    return {name: name for name in state} if kept or len({*bare.values()}) < len(bare) else bare


def find_below(state: Iterable[str], known: Collection[str]) -> tuple[str, list[str]] | None:
    """Where a model stands among other tensors, and their names; None where there is no model.

    Args:
        state: names of all tensors.
        known: names that tell a model, of which one is enough.
    """
    before = min(
        (name.removesuffix(end) for name in state for end in known if name.endswith(f".{end}")),
        key=len,
        default=None,
    )
    if before is None:
        return None
    return before, [name for name in state if not name.startswith(before)]


def _is_counter(tensor: Tensor) -> bool:
    return tensor.numel() == 1 and not tensor.is_floating_point()


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, under the rest of their names."""
    return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
