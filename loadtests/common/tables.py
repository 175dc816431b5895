"""How figures stand in the tables of several tools."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], between: str = "..") -> str:
    """The median, and the least and the greatest value: ``0.75 (0.74..0.78)``."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}{between}{max(values):.2f})"
