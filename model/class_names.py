"""Names of classes, and the files that come with the server."""

import json
from pathlib import Path
from typing import Any

from vimserve.model.text_files import read_text

FOLDER = Path(__file__).parent / "labels"
IMAGENET = FOLDER / "imagenet1k.json"
ADE20K = FOLDER / "ade20k150.json"
COCO = FOLDER / "coco80.json"


def read_labels(path: Path, num_classes: int) -> tuple[str, ...]:
    """Class names from a JSON list, a JSON object with ``labels``, or a text file of lines.

    Raises:
        ValueError: if the file cannot be read or has not one name for each class.
    """
    return checked_labels(_content(path), num_classes, f"labels {path}")


def read_all_labels(path: Path) -> tuple[str, ...]:
    """As ``read_labels``, however many there are.

    Raises:
        ValueError: if the file cannot be read or has no names.
    """
    content = _content(path)
    listed = content.get("labels") if isinstance(content, dict) else content
    count = len(listed) if isinstance(listed, list) else 0
    return checked_labels(content, count, f"labels {path}")


def _content(path: Path) -> Any:
    try:
        text = read_text(path)
        return json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"labels {path}: {error}") from error


def checked_labels(content: Any, num_classes: int, where: str) -> tuple[str, ...]:
    """Class names from a list, or an object with ``labels``.

    Raises:
        ValueError: if it is neither or has not one name for each class; it begins with ``where``.
    """
    labels = content.get("labels") if isinstance(content, dict) else content
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{where}: neither a list of names nor an object with 'labels'")
    if len(labels) != num_classes:
        raise ValueError(f"{where}: {len(labels)} names for {num_classes} classes")
    return tuple(labels)


def numbered(num_classes: int) -> tuple[str, ...]:
    """Names for classes that have none."""
    return tuple(f"class {i}" for i in range(num_classes))
