"""Features on disk, in files that are mapped, not read.

A cache is two files: the rows, one behind another, and a list with a line for each row. A row is
written before its line is, so that a process may be killed at any time: whatever has no whole line
is computed anew. Rows are written by ``write``, not through the map, for which a full disk would be
SIGBUS.
"""

import errno
import fcntl
import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np

FORMAT = 1
ROWS, NAMES = ".rows", ".names"

Floats = np.ndarray[Any, np.dtype[Any]]


class FeatureCache:
    """Arrays of one shape by name, for one ``key``; a single process at a time may have it open.

    The folder may have caches for other keys. Those that were not used for longest are deleted
    where room is needed.

    Args:
        folder: where the files are; made if need be.
        key: whatever the arrays depend on besides their names.
        shape: of each array.
        most_bytes: that all caches of the folder may take together.
        dtype: in which they are kept.

    Raises:
        ValueError: if another process has it open.
        OSError: if the files cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        shape: tuple[int, ...],
        most_bytes: int,
        *,
        dtype: type[np.generic] = np.float32,
    ) -> None:
        self._folder, self._shape, self._most = folder, shape, most_bytes
        self._dtype = np.dtype(dtype)
        self._row_bytes = math.prod(shape) * self._dtype.itemsize
        folder.mkdir(parents=True, exist_ok=True)
        head = json.dumps([FORMAT, key, shape, self._dtype.name])
        self._stem = sha256(head.encode()).hexdigest()[:32]
        names = _locked(folder / f"{self._stem}{NAMES}")
        if names is None:
            raise ValueError(
                f"another process uses the features in {folder}: wait for it, or use another folder"
            )
        self._names = names
        self._rows = FileIO(folder / f"{self._stem}{ROWS}", "a+")
        os.utime(self._rows.name)  # it is the one that was used last
        self._map: np.memmap[Any, Any] | None = None
        self._read_names()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._index)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that it does not have, each once, after making room for them.

        Raises:
            ValueError: if there is no room for all of ``names``.
        """
        wanted = dict.fromkeys(names)
        self._check(len(wanted))
        absent = [name for name in wanted if name not in self._index]
        if self._bytes_with(len(absent)) > self._most:  # it has rows of what is not wanted any more
            self._forget()
            absent = list(wanted)
        self._make_room(self._bytes_with(len(absent)))
        return absent

    def put(self, name: str, value: Floats) -> None:
        """Keep an array; it is there as soon as this returns, even if the process is killed then.

        Raises:
            ValueError: if it has another shape, or there is no room for it.
            OSError: if it cannot be written; the message names the folder.
        """
        if value.shape != self._shape:
            raise ValueError(f"{name}: {list(value.shape)} instead of {list(self._shape)}")
        row = self._count
        self._check(row + 1)
        line = json.dumps(name).encode() + b"\n"
        place = row * self._row_bytes
        try:
            self._rows.truncate(place)  # what a killed process has left of a row
            _write(self._rows, np.ascontiguousarray(value, self._dtype).tobytes())
            _write(self._names, line)
        except OSError as error:
            with suppress(OSError):
                self._names.truncate(self._names_bytes)
            raise OSError(
                f"features cannot be kept in {self._folder}: {error.strerror} "
                f"({row} are there, of {self._row_bytes} bytes each); choose another folder"
            ) from error
        self._names_bytes += len(line)
        self._count += 1
        self._index[name] = row

    def get(self, name: str) -> Floats:
        """The array of that name, a view of the mapped file that cannot be written to.

        Raises:
            KeyError: if it is not there.
        """
        return self._mapped()[self._index[name]]

    def take(self, names: Sequence[str]) -> Floats:
        """The arrays of some names, one behind another, as a copy.

        Raises:
            KeyError: if one is not there.
        """
        return self._mapped()[[self._index[name] for name in names]]

    def close(self) -> None:
        """Let others use it; what ``get`` returned stays usable."""
        self._map = None
        self._rows.close()
        self._names.close()

    def _mapped(self) -> Floats:
        """All rows."""
        if self._map is None or len(self._map) < self._count:
            shape = (self._count, *self._shape)
            self._map = np.memmap(self._rows.name, self._dtype, "r", shape=shape)
        return self._map.view(np.ndarray)  # whose rows are had much faster than those of a memmap

    def _read_names(self) -> None:
        """Take over whole lines whose rows are there, and cut off the rest."""
        self._names.seek(0)
        there = self._rows.seek(0, 2) // max(self._row_bytes, 1)
        lines = self._names.readall().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")][:there]
        self._index = {json.loads(line): row for row, line in enumerate(whole)}
        self._count, self._names_bytes = len(whole), sum(map(len, whole))
        self._names.truncate(self._names_bytes)

    def _forget(self) -> None:
        """Begin anew, with another file: what ``get`` returned stays usable."""
        self._names.truncate(0)
        self._rows.close()
        Path(str(self._rows.name)).unlink()
        self._rows = FileIO(self._rows.name, "a+")
        self._map = None
        self._read_names()

    def _bytes_with(self, more: int) -> int:
        return (self._count + more) * self._row_bytes

    def _check(self, count: int) -> None:
        if count * self._row_bytes > self._most:
            raise ValueError(
                f"the features of {count} pictures take {count * self._row_bytes} bytes, more than "
                f"the {self._most} that the cache may take"
            )

    def _make_room(self, needed: int) -> None:
        """Delete other caches, those that were used last at the end, until ``needed`` bytes fit."""
        others = [file for file in self._folder.glob(f"*{ROWS}") if file.stem != self._stem]
        sizes = {file: file.stat().st_size for file in others}
        for file in sorted(others, key=lambda one: one.stat().st_mtime_ns):
            if needed + sum(sizes.values()) <= self._most:
                break
            lock = _locked(file.with_suffix(NAMES))
            if lock is not None:
                with lock:
                    file.unlink()
                    file.with_suffix(NAMES).unlink()
                del sizes[file]
        if (others_take := sum(sizes.values())) + needed > self._most:
            raise ValueError(
                f"the features take {needed} bytes and others that are in use {others_take}, "
                f"together more than the {self._most} that the cache may take"
            )


def _locked(file: Path) -> FileIO | None:
    """A file, opened to be read and appended to, that no other process has locked."""
    while True:
        opened = FileIO(file, "a+")
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            opened.close()
            return None
        if file.exists() and os.path.samestat(file.stat(), os.fstat(opened.fileno())):
            return opened
        opened.close()  # it was deleted meanwhile


def _write(file: FileIO, data: bytes) -> None:
    """Write all of ``data``; a file without a buffer may take less at a time."""
    left = memoryview(data)
    while left:
        written = file.write(left)
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        left = left[written:]
