"""Files of tensors: what they hold at once, values one tensor at a time, nothing mapped.

A mapped file would change the weights of a running model when somebody writes to it, and end the
process with SIGBUS when somebody cuts it short. Read whole, it would take the memory of everything
in it, such as an optimizer's state.
"""

import abc
import argparse
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor

# As the format's documentation spells them. More are told apart than can be served, for the error.
_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_HEADER_BYTES = 30  # of a file in a zip archive, before its name
_SCRATCH_BYTES = 1 << 22
_GIT_LFS = b"version https://git-lfs.github.com/spec/"
# ``safe_globals`` changes a list of the whole process, and models load side by side.
_unpickling = threading.Lock()


class TensorFileError(ValueError):
    """A file that cannot be read, and the whole reason on one line, without its name."""


class TensorFile(abc.ABC):
    """An open file.

    Attributes:
        content: what was saved. Its tensors are on the meta device and have no values, unless the
            file cannot be read in parts.
        metadata: texts beside the tensors of a safetensors file.
    """

    content: Any
    metadata: Mapping[str, str] = MappingProxyType({})

    @abc.abstractmethod
    def read(self, name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The values of a tensor of ``content``, contiguous, which do not depend on the file.

        Args:
            name: what the file calls it.
            tensor: as ``content`` has it.
            dtype: what they are cast to.
            device: where they go.

        Raises:
            TensorFileError: if the file does not have them whole.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Nothing is read any more."""


def open_tensors(path: Path) -> TensorFile:
    """A safetensors file or one of ``torch.save``, told apart by what is in it, not by its name.

    Besides tensors and plain values, an ``argparse.Namespace`` may be in it; no other class is
    unpickled.

    Raises:
        TensorFileError: if it is the text that Git LFS leaves in a file's place.
        Exception: whatever readers raise for damaged or foreign files.
    """
    with path.open("rb") as file:
        start = file.read(len(_GIT_LFS))
    if start == _GIT_LFS:
        raise TensorFileError("a text of Git LFS in place of the file: `git lfs pull` gets it")
    # A safetensors file begins with the length of a JSON object in 8 bytes.
    return _Safetensors(path) if start[8:9] == b"{" else _Pickled(path)


class _Safetensors(TensorFile):
    def __init__(self, path: Path) -> None:
        # Here, so that whoever reads no file (a check on a GPU machine, say) does without it.
        import safetensors

        self._file = safetensors.safe_open(path, framework="pt", backend="pread")
        self.metadata = self._file.metadata() or {}
        self.content = {name: self._describe(name) for name in self._file.keys()}  # noqa: SIM118

    def _describe(self, name: str) -> Tensor:
        part = self._file.get_slice(name)
        if (dtype := _SAFETENSORS_DTYPES.get(part.get_dtype())) is None:
            raise TensorFileError(f"{name} holds {part.get_dtype()}, which cannot be served")
        return torch.empty(part.get_shape(), dtype=dtype, device="meta")

    def read(self, name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        # Its memory first, so that what is read for it leaves no gap on the heap.
        values = torch.empty(tensor.shape, dtype=dtype, device=device)
        return values.copy_(self._file.get_tensor(name))

    def close(self) -> None:
        self._file.__exit__(None, None, None)


class _Pickled(TensorFile):
    def __init__(self, path: Path) -> None:
        # One for all tensors: a piece of memory for each would leave gaps on the heap.
        self._scratch = torch.empty(_SCRATCH_BYTES, dtype=torch.uint8)
        self._file = path.open("rb")
        try:
            self._places = _places(self._file) if zipfile.is_zipfile(self._file) else {}
            self._file.seek(0)
            where = "meta" if self._places else "cpu"
            with _unpickling, torch.serialization.safe_globals([argparse.Namespace]):
                self.content = torch.load(self._file, map_location=where, weights_only=True)
        except BaseException:
            self._file.close()
            raise

    def read(self, name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        if tensor.device.type != "meta":
            return tensor.to(device, dtype).contiguous()
        values = torch.empty(tensor.shape, dtype=dtype, device=device)
        if not tensor.numel():
            return values
        self._seek(name, tensor)
        if tensor.is_contiguous():
            for part in values.view(-1).split(len(self._scratch) // tensor.itemsize):
                part.copy_(self._next(name, part.numel(), tensor.dtype, self._scratch))
            return values
        span = _span(tensor)
        memory = torch.empty(span * tensor.itemsize, dtype=torch.uint8)
        whole = self._next(name, span, tensor.dtype, memory)
        return values.copy_(whole.as_strided(tensor.shape, tensor.stride()))

    def _seek(self, name: str, tensor: Tensor) -> None:
        """Go to where the values of a tensor begin."""
        storage = tensor.untyped_storage()
        # PyTorch's notes on serialization have this attribute of what was loaded without values.
        start = storage._checkpoint_offset
        if start is None or self._places.get(start) != storage.nbytes():
            raise TensorFileError(f"{name} is not where torch.save puts it: save the file again")
        first = int(tensor.storage_offset()) * tensor.itemsize
        if first + _span(tensor) * tensor.itemsize > storage.nbytes():
            raise TensorFileError(f"{name} is larger than what was saved of it")
        self._file.seek(start + first)

    def _next(self, name: str, count: int, dtype: torch.dtype, memory: Tensor) -> Tensor:
        """The next values of the file, read to the beginning of bytes in memory."""
        octets = memory[: count * dtype.itemsize]
        if self._file.readinto(octets.numpy().data) != len(octets):
            raise TensorFileError(f"the file ends within {name}")
        return octets.view(dtype)

    def close(self) -> None:
        self._file.close()


def _span(tensor: Tensor) -> int:
    """How many elements lie between a tensor's first and its last one, both counted."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * step for size, step in steps)


def _places(file: BinaryIO) -> dict[int, int]:
    """Where an archive has bytes as they are in memory: their first one, and how many there are.

    Empty if there is anything that is not so: a tensor that was compressed afterwards, or written
    on a machine with the other order of bytes.
    """
    places = {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("/byteorder") and archive.read(entry) != b"little":
                return {}
            if "/data/" in entry.filename:
                if entry.compress_type != zipfile.ZIP_STORED:
                    return {}
                file.seek(entry.header_offset + _HEADER_BYTES - 4)
                name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
                places[entry.header_offset + _HEADER_BYTES + name + extra] = entry.file_size
    return places
