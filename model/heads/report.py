"""The report of a training: sections of Markdown, of which some have pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vimserve.model.tables import markdown

NAME = "report.md"


@dataclass(frozen=True)
class Section:
    """A part of a report; one without lines is left out.

    Attributes:
        title: its heading.
        lines: of Markdown.
    """

    title: str
    lines: Sequence[str]


def write(folder: Path, title: str, summary: str, sections: Sequence[Section]) -> Path:
    """Write ``report.md`` into a folder, which is made if need be."""
    lines = [f"# {title}", "", summary]
    for section in sections:
        if section.lines:
            lines += ["", f"## {section.title}", "", *section.lines]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAME
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")
    return file


def picture(file: str, about: str = "") -> list[str]:
    """Lines that show a picture beside the report."""
    shown = f"![{Path(file).stem}]({file})"
    return [shown, "", about] if about else [shown]


def bullets(texts: Sequence[str]) -> list[str]:
    """A list."""
    return [f"- {text}" for text in texts]


def pairs(values: Mapping[str, str]) -> list[str]:
    """A table of names and values."""
    return markdown(["", ""], [[name, value] for name, value in values.items()])
