"""The answers for the pictures of one setting, in a file that grows with each of them.

The first line says what was set, each further one has what is known of a picture. A run that was
interrupted goes on behind the last whole line; pictures that have changed since are done anew.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from vimserve.server.commands.evaluate.samples import Record, Sample


class Journal:
    """The answers of one setting.

    Args:
        file: where they are kept.
        settings: whatever the answers depend on besides the pictures, as JSON has it.

    Attributes:
        file: as given.

    Raises:
        ValueError: if the file has answers for other settings, or is something else.
        OSError: if it cannot be read or written.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        self.file = file
        self._lines: dict[str, Record] = {}
        head = json.dumps({"settings": settings})
        text = file.read_bytes() if file.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]  # a line that was cut off is written again
        first, *others = whole.decode(errors="replace").splitlines() or [head]
        if first != head:
            raise ValueError(
                f"{file} has answers for {_difference(first, settings)}; choose another --output, "
                "or delete it"
            )
        for line in others:
            record = json.loads(line)
            self._lines[record["image"]] = record
        if whole != text or not whole:
            file.write_bytes(whole or head.encode() + b"\n")
        self._out = file.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def add(self, sample: Sample, key: str, record: Record) -> None:
        """Write down what is known of a picture."""
        line = {"image": sample.name, "key": key, **record}
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()
        self._lines[sample.name] = line

    def answered(self, sample: Sample, key: str) -> bool:
        """Whether there is an answer for the picture as it is; failures are tried again."""
        line = self._lines.get(sample.name)
        return line is not None and line["key"] == key and "error" not in line

    def records(self, samples: Sequence[Sample]) -> tuple[list[Record], dict[str, str]]:
        """The answers for these pictures in their order, and by name why others have none."""
        lines = [self._lines[one.name] for one in samples if one.name in self._lines]
        answers = [line for line in lines if "error" not in line]
        return answers, {line["image"]: line["error"] for line in lines if "error" in line}


def _difference(first: str, settings: Mapping[str, Any]) -> str:
    """What the first line of a file says otherwise, in a few words."""
    try:
        other = json.loads(first)["settings"]
        names = [name for name in settings if other.get(name) != settings[name]]
        return f"other settings ({', '.join(names)})"
    except (ValueError, TypeError, KeyError, AttributeError):
        return "something else"
