"""Published checkpoint files to state dicts, and state dicts into models, strictly."""

import logging
import pickle
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from vimserve.model.tensor_files import TensorFileError, open_tensors
from vimserve.model.tensor_names import bare_names

logger = logging.getLogger(__name__)

METADATA = "vimserve"  # name of what this project says in a safetensors file's metadata
_NAMED_TENSORS = 4  # how many missing or unknown tensors an error lists
# Keys under which training scripts save a state dict. An average of weights is taken only where the
# weights themselves are not there: the published accuracies are theirs.
_AVERAGE_KEYS = ("model_ema", "state_dict_ema", "ema_state_dict", "ema")
_STATE_KEYS = ("model", "state_dict", "module", *_AVERAGE_KEYS)
_SERVED_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class CheckpointError(ValueError):
    """A checkpoint that cannot be served; the message says which file and why, on one line."""


class Checkpoint:
    """A checkpoint file, open while a ``with`` block runs.

    It may be a safetensors file, or one of ``torch.save`` that holds the state dict itself or holds
    it under ``model``, ``state_dict`` or another usual key, beside an ``argparse.Namespace`` of
    training arguments; no other class is ever unpickled. Names are those of ``bare_names``. What is
    of use in training alone is left out: the ``auxiliary_head`` of a segmentation checkpoint, and
    how many batches a batch norm has seen, which old files lack.

    Attributes:
        tensors: the state dict without values, on the meta device.
        metadata: texts beside the tensors of a safetensors file.
        trained_as: name of the architecture among the training arguments, empty without one.
        remarks: what is read otherwise than it was written, for the log.

    Raises:
        CheckpointError: if the file is missing, damaged, holds foreign classes or no tensors.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file")
        with ExitStack() as opened:
            try:
                self._version = _version(path)
                self._file = open_tensors(path)
                opened.callback(self._file.close)
                key, state = _find_state(self._file.content)
                self.metadata = self._file.metadata
                self.trained_as = _architecture(self._file.content)
            except Exception as error:  # a damaged pickle can raise anything
                raise CheckpointError(f"{path}: {_reason(error)}") from error
            # What was read whole is let go: the rest of it now, each tensor once it is taken.
            self._stored, self._file.content = dict(state), None
            ours = METADATA in self.metadata  # and so the names are those of the model
            names = {name: name for name in state} if ours else bare_names(state)
            self.remarks = _remarks(key, names, state)
            self._names = {new: old for old, new in names.items() if not of_training(new)}
            self.tensors = {new: state[old].to("meta") for new, old in self._names.items()}
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()

    def take(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The values of a tensor, contiguous, cast and moved; every tensor can be taken once.

        Raises:
            CheckpointError: if the file does not have them whole.
        """
        stored = self._names[name]
        try:
            return self._file.read(stored, self._stored.pop(stored), dtype, device)
        except Exception as error:
            raise CheckpointError(_reason(error)) from error

    def check_unchanged(self) -> None:
        """Make sure that all values are of one version of the file.

        Raises:
            CheckpointError: if it is not the file any more that was opened.
        """
        try:
            same = _version(self._path) == self._version
        except OSError:
            same = False
        if not same:
            raise CheckpointError("it was changed while it was read: try again")


def count_blocks(state: dict[str, Tensor], name: str) -> int:
    """How many blocks the list ``name`` of a state dict has, of which there is at least one.

    Raises:
        ValueError: if a tensor below ``name`` belongs to none.
    """
    blocks = [tensor.split(".")[1] for tensor in state if tensor.startswith(f"{name}.")]
    return 1 + max(map(int, blocks))


def load_strictly(
    module: nn.Module,
    path: Path,
    device: str | torch.device,
    unused: tuple[str, ...] = (),
    opened: Callable[[Path], Checkpoint] = Checkpoint,
) -> None:
    """Give a module on the meta device the weights of a checkpoint file.

    Every tensor is read, cast and moved before the next one is read, so that memory holds the
    weights once, as the module will have them. Nothing of the module depends on the file then.

    Args:
        module: gets tensors of its own dtypes.
        path: the file.
        device: where the tensors go.
        unused: how the names begin of tensors that may be there and are left out.
        opened: opens the file.

    Raises:
        CheckpointError: as ``opened``, or naming tensors that are unknown, missing, of another
            shape or no floating-point numbers.
    """
    # PyTorch's own batch norms load without their counters.
    expected = {name: t for name, t in module.state_dict().items() if not of_training(name)}
    with opened(path) as checkpoint:
        try:
            given = checkpoint.tensors.items()
            _check(expected, {name: t for name, t in given if not name.startswith(unused)})
            state = {
                name: checkpoint.take(name, tensor.dtype, torch.device(device))
                for name, tensor in expected.items()
            }
            checkpoint.check_unchanged()
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
    module.load_state_dict(state, strict=True, assign=True)
    for remark in checkpoint.remarks:
        logger.info("%s: %s", path, remark)


def of_training(name: str) -> bool:
    """Whether a tensor of that name is of use in training alone."""
    return name.startswith("auxiliary_head.") or name.endswith(".num_batches_tracked")


def _check(expected: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Make sure that all names, shapes and dtypes fit.

    Raises:
        CheckpointError: naming those that do not.
    """
    both = [(name, expected[name], given[name]) for name in expected if name in given]
    misshapen = [
        f"{name} {list(there.shape)} instead of {list(wanted.shape)}"
        for name, wanted, there in both
        if there.shape != wanted.shape
    ]
    problems = [
        f"{kind}: {listed(names)}"
        for kind, names in (
            ("unknown tensors", sorted(given.keys() - expected.keys())),
            ("missing tensors", sorted(expected.keys() - given.keys())),
            ("other shapes", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError("another architecture: " + "; ".join(problems))
    unserved = {
        name: str(there.dtype).removeprefix("torch.")
        for name, wanted, there in both
        if wanted.is_floating_point() and there.dtype not in _SERVED_DTYPES
    }
    if unserved:
        raise CheckpointError(
            f"weights of {', '.join(sorted({*unserved.values()}))} cannot be served, only those of "
            f"16, 32 or 64 bit floating point: {listed(list(unserved))}"
        )


def _find_state(content: Any) -> tuple[str | None, dict[str, Tensor]]:
    """The state dict in what a file holds, and the key under which it is there.

    Raises:
        TensorFileError: if there is none.
    """
    held = content if isinstance(content, dict) else {}
    key = next((key for key in _STATE_KEYS if isinstance(held.get(key), dict)), None)
    state = content if key is None else content[key]
    named = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    )
    if not (named and state):
        raise TensorFileError("holds no state dict, nor one under 'model' or 'state_dict'")
    return key, state


def _architecture(content: Any) -> str:
    arguments = content.get("args") if isinstance(content, dict) else None
    name = getattr(arguments, "model", "")
    return name if isinstance(name, str) else ""


def _remarks(key: str | None, names: dict[str, str], stored: dict[str, Tensor]) -> list[str]:
    remarks = []
    if key in _AVERAGE_KEYS:
        remarks.append(f"the weights are those of a moving average, {key!r}")
    if changed := [f"{old} is {new}" for old, new in names.items() if old != new]:
        remarks.append(f"names are taken without what training put around them: {changed[0]}, …")
    if left := sorted(stored.keys() - names.keys()):
        remarks.append(f"counters beside the weights are left out: {listed(left)}")
    return remarks


def _version(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED_TENSORS
    return ", ".join(names[:_NAMED_TENSORS]) + (f" and {more} more" if more > 0 else "")


def _reason(error: Exception) -> str:
    if isinstance(error, TensorFileError):
        return str(error)
    if isinstance(error, pickle.UnpicklingError):
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            return (
                f"refused: besides tensors it holds a pickled {foreign[1]}, which could run code; "
                "convert it to safetensors"
            )
        return "not a checkpoint, or a damaged one"
    return f"not a checkpoint, or a damaged one ({_first_sentence(error)})"


def _first_sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
