"""The pictures that a model is tested on, and what can be wrong with their list."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimserve.model.picture_files import some

Record = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A picture with its truth.

    Attributes:
        name: of the picture within its data set.
        path: its file.
        truth: what there is in it; what that is depends on the task.
        files: further files that the truth is in.
    """

    name: str
    path: Path
    truth: Any = None
    files: tuple[Path, ...] = ()

    def key(self) -> str:
        """Changes with the truth, and with the size and the time of change of any of its files.

        Raises:
            OSError: if one of them is not there.
        """
        stats = [file.stat() for file in (self.path, *self.files)]
        seen = repr((self.name, self.truth, [(one.st_size, one.st_mtime_ns) for one in stats]))
        return hashlib.sha256(seen.encode()).hexdigest()[:16]


def without_missing(
    found: Sequence[Sample], missing: Sequence[str], where: str, *, skip: bool
) -> Sequence[Sample]:
    """The samples that are there.

    Args:
        found: the samples whose files are there.
        missing: the names of the files that are not.
        where: what named them, and where they are not.
        skip: whether to go on without them.

    Raises:
        ValueError: if files are missing and nobody wants to go on without them, or none are there.
    """
    if missing and not skip:
        raise ValueError(
            f"{len(missing)} of {len(found) + len(missing)} {where} are missing: "
            f"{some(missing)}; --skip-missing goes on without them"
        )
    if not found:
        raise ValueError(f"no {where} are there: {some(missing)}")
    return found
