"""What the readers of scenes have in common."""

from mmap import ACCESS_READ, mmap
from pathlib import Path

from vimserve.server.errors import CorruptImage, UnsupportedImage


def mapped(path: Path) -> mmap:
    """A file's bytes, of which only the pages are in memory that are looked at.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ)


def check_upright(path: Path, orientation: int) -> None:
    """Refuse a file that is to be turned: its windows are not parts of what is to be seen.

    Raises:
        UnsupportedImage: the orientation, as in EXIF, is from 2 to 8.
    """
    if 2 <= orientation <= 8:
        raise UnsupportedImage(
            f"{path.name} is stored turned (orientation {orientation}), which is not read by "
            "windows; save it upright",
            limit=1,
            value=orientation,
        )


def damaged(path: Path, reason: object) -> CorruptImage:
    """The error for a file that cannot be decoded."""
    num_bytes = path.stat().st_size
    return CorruptImage(
        f"{path.name} is truncated or damaged ({num_bytes} bytes): {reason}",
        limit="a complete file",
        value=f"{num_bytes} bytes",
    )
