"""Folders of image files that users name."""

from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
)  # fmt: skip
NAMED = 5


def pictures(folder: Path) -> Iterator[Path]:
    """The image files in a folder and those below it, sorted; hidden ones are left out."""
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
            yield file


def check_folder(folder: Path, flag: str) -> None:
    """Refuse what is no folder.

    Raises:
        ValueError: with the flag that named it.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"{flag} {folder} {what}")


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
