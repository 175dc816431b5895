"""A result in the making: a folder beside it, from which an interrupted run goes on."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATE, NEW_STATE = "state.json", "state.json.new"


class Partial:
    """The folder ``OUTPUT.partial``.

    Args:
        output: the file that is made.
        settings: whatever the result depends on, as JSON has it.

    Attributes:
        folder: for the files of whoever makes the result.
        rows: rows of windows that are in it.

    Raises:
        ValueError: if there are rows of other settings in such a folder.
        OSError: if it cannot be read or written.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.folder = output.with_name(output.name + ".partial")
        self._settings = json.loads(json.dumps(settings))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows = self._read()
        self._write()

    def complete(self, rows: int) -> None:
        """Note that so many rows are in the files of the folder, which are on the disk by now."""
        self.rows = rows
        self._write()

    def remove(self) -> None:
        """Remove the folder; the result is complete."""
        self.complete(0)  # whoever finds some of the files begins anew
        for file in self.folder.iterdir():
            if file.name != STATE:
                file.unlink()
        shutil.rmtree(self.folder)

    def _read(self) -> int:
        try:
            state = json.loads((self.folder / STATE).read_text())
            rows, settings = state["rows"], dict(state["settings"])
        except FileNotFoundError:
            if any(file.name != NEW_STATE for file in self.folder.iterdir()):
                raise ValueError(f"{self.folder} is in the way; delete it") from None
            return 0
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.folder / STATE} is damaged; delete {self.folder}") from error
        if rows and settings != self._settings:
            names = [name for name, value in self._settings.items() if settings.get(name) != value]
            raise ValueError(
                f"{self.folder} belongs to other settings ({', '.join(names)}); choose another "
                "--output, or delete it"
            )
        return rows

    def _write(self) -> None:
        new = self.folder / NEW_STATE
        with new.open("w", encoding="utf-8") as file:
            json.dump({"settings": self._settings, "rows": self.rows}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / STATE)
        # The next row writes over what the one before the last left, so the name is awaited, too.
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def publish(new: Path, output: Path) -> None:
    """Give a complete file its name, once all of it is on the disk.

    Raises:
        OSError: if it cannot be written.
    """
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(output)
