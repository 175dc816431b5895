"""The report of a run: whole after every row, whatever happens then."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vimserve.loadtests.gpu_check.sections import Row

GATES = "gates"  # how the names of the sections of gates begin
SHORT = 48  # characters of a text in a printed line
LINE = 160  # characters of a printed line


class Report:
    """Rows by section, written to a file at every change.

    A row that depends on what a red gate vouches for says so: it lists the gate in ``red``. A gate
    that failed, so that it has no result, is red as well.

    Args:
        file: JSON to write.
        head: what the report says besides, in JSON's types.

    Raises:
        OSError: if the file cannot be written.
    """

    def __init__(self, file: Path, head: Row) -> None:
        self._file = file
        self._head = head
        self.rows: dict[str, list[Row]] = {}
        self.sections: dict[str, Row] = {}
        self.save()

    @property
    def red(self) -> list[Row]:
        """The gates that are not green."""
        gates = (row for rows in self.rows.values() for row in rows if "gate" in row)
        return [row for row in gates if not row["green"]]

    @property
    def errors(self) -> list[Row]:
        """The rows of what failed."""
        return [row for rows in self.rows.values() for row in rows if "error" in row
                and "gate" not in row]  # fmt: skip

    def add(self, section: str, row: Row) -> None:
        """Take a row, print it and write the report."""
        self.rows.setdefault(section, []).append(row)
        if "gate" not in row or not row["green"]:
            self.say(f"{section}: {one_line(row)}")
        self.save()

    def leave_out(self, section: str, names: Sequence[str]) -> None:
        """Note jobs that there was no time for."""
        self.sections.setdefault(section, {})["left_out"] = list(names)
        self.say(f"{section}: no time for {', '.join(names)}")
        self.save()

    def finish(self, section: str, state: str, seconds: float) -> None:
        """Note how a section ended: ``done``, ``cut`` or ``broken``."""
        self.sections.setdefault(section, {}).update(state=state, seconds=round(seconds, 1))
        self.say(
            f"{section}: {state} after {seconds:.1f} s, {len(self.rows.get(section, []))} rows"
        )
        self.save()

    def head(self, **entries: Any) -> None:
        """Add to what the report says besides its rows."""
        self._head |= entries
        self.save()

    def say(self, line: str) -> None:
        """Print a line at once."""
        print(line, flush=True)

    def save(self) -> None:
        """Write the report; whoever reads the file meanwhile sees the old or the new one whole."""
        self._mark()
        whole = {**self._head, "sections": self.sections, "rows": self.rows}
        text = json.dumps(finite(whole), indent=1, allow_nan=False)
        new = self._file.with_name(f".{self._file.name}.new")
        new.write_text(text + "\n")
        os.replace(new, self._file)

    def _mark(self) -> None:
        red = {subject: gate["gate"] for gate in self.red for subject in gate["of"]}
        for section, rows in self.rows.items():
            if section.startswith(GATES):
                failed = (row for row in rows if "error" in row and "gate" not in row)
                red |= {subject: row["job"] for row in failed for subject in row.get("uses", ())}
        for section, rows in self.rows.items():
            for row in rows if not section.startswith(GATES) else ():
                if marks := sorted({red[use] for use in row.get("uses", ()) if use in red}):
                    row["red"] = marks


def finite(value: Any) -> Any:
    """``value`` in JSON's types, with the numbers that JSON lacks as text."""
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def one_line(row: Row) -> str:
    """The figures of a row, or the last line of its error."""
    if "error" in row and isinstance(row["error"], str):
        return f"ERROR {row['job']}: {row['error'].strip().splitlines()[-1][:300]}"
    words = [str(row.get("job", ""))]
    for key, value in row.items():
        if isinstance(value, float):
            words.append(f"{key} {value:.4g}")
        elif isinstance(value, int | str) and key not in ("job", "uses"):
            words.append(f"{key} {str(value)[:SHORT]}")
    mark = "RED " if row.get("red") or row.get("green") is False else ""
    return (mark + ", ".join(words))[:LINE]
