"""Published checkpoint files to state dicts, and state dicts into models, strictly."""

import argparse
import pickle
import re
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# ``safe_globals`` changes a list of the whole process, and models load side by side.
_unpickling = threading.Lock()
_NAMED_TENSORS = 4  # how many missing or unknown tensors an error lists


class CheckpointError(ValueError):
    """A checkpoint that cannot be served; the message says which file and why, on one line."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a published ``.pth``, mapped, not copied.

    A ``.pth`` may hold the state dict itself or hold it under ``model`` or ``state_dict``, beside
    an ``argparse.Namespace`` of training arguments; no other class is ever unpickled. The
    ``auxiliary_head`` of a segmentation checkpoint, of use in training alone, is left out.

    Raises:
        CheckpointError: if the file is missing, damaged, holds foreign classes or no tensors.
    """
    content = _read(path)
    if isinstance(content, dict):
        for key in ("model", "state_dict"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not content or not _all_tensors(content):
        raise CheckpointError(f"{path}: holds no state dict, nor one under 'model' or 'state_dict'")
    return {name: content[name] for name in content if not name.startswith("auxiliary_head.")}


def read_architecture(path: Path) -> str:
    """The name of the architecture among a file's training arguments, or nothing.

    Raises:
        CheckpointError: as ``read_state_dict``.
    """
    content = _read(path)
    arguments = content.get("args") if isinstance(content, dict) else None
    name = (
        arguments.get("model") if isinstance(arguments, dict) else getattr(arguments, "model", "")
    )
    return name if isinstance(name, str) else ""


def _read(path: Path) -> Any:
    # Here, so that whoever reads no file (a check on a GPU machine, say) does without the package.
    import safetensors.torch

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with _unpickling, torch.serialization.safe_globals([argparse.Namespace]):
            # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: refused: besides tensors it holds a pickled {foreign[1]}, "
                "which could run code; convert it to safetensors"
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one") from error
    except (safetensors.SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint, or a damaged one ({_first_sentence(error)})"
        ) from error


def count_blocks(state: dict[str, Tensor], name: str) -> int:
    """How many blocks the list ``name`` of a state dict has, of which there is at least one.

    Raises:
        ValueError: if a tensor below ``name`` belongs to none.
    """
    blocks = [tensor.split(".")[1] for tensor in state if tensor.startswith(f"{name}.")]
    return 1 + max(map(int, blocks))


def load_strictly(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a module on the meta device the tensors of a state dict, without copying them.

    Raises:
        CheckpointError: naming tensors that are unknown, missing or of another shape.
    """
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    unknown, missing = state.keys() - expected.keys(), expected.keys() - state.keys()
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    problems = [
        f"{kind}: {_listed(names)}"
        for kind, names in (
            ("unknown tensors", sorted(unknown)),
            ("missing tensors", sorted(missing)),
            ("other shapes", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError("another architecture: " + "; ".join(problems))
    module.load_state_dict(state, strict=True, assign=True)


def _all_tensors(content: dict[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED_TENSORS
    return ", ".join(names[:_NAMED_TENSORS]) + (f" and {more} more" if more > 0 else "")


def _first_sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
