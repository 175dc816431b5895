"""How figures stand in the tables of reports."""

import statistics
from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def spread(values: Sequence[float], between: str = "..") -> str:
    """The median, and the least and the greatest value: ``0.75 (0.74..0.78)``."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}{between}{max(values):.2f})"
