"""Writes JSON that has a long list, which is never in memory."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_list(path: Path, members: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
    """Write an object whose last member is a list, one item a line.

    Args:
        path: the file.
        members: the other members, at least one.
        name: of the list.
        items: what is in it.

    Raises:
        OSError: if it cannot be written.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(members).removesuffix("}") + f", {json.dumps(name)}: [")
        separator = "\n"
        for item in items:
            file.write(separator + json.dumps(item))
            separator = ",\n"
        file.write("\n]}\n")
