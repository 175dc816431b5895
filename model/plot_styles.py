"""How the lines of a plot look, so that they can be told without colours too."""

from typing import Any

STYLES: list[dict[str, Any]] = [
    {"color": "#0b3c6f", "linestyle": "-", "marker": "o"},
    {"color": "#b5560c", "linestyle": "--", "marker": "s"},
    {"color": "#6b6b6b", "linestyle": ":", "marker": "^"},
    {"color": "#2f7d32", "linestyle": "-.", "marker": "D"},
    {"color": "#7b3f9e", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
]


def style(index: int) -> dict[str, Any]:
    """Of the line with this number; after the last style the first comes again."""
    return STYLES[index % len(STYLES)]
