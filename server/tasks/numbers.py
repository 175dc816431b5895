"""Reads numbers from queries and headers."""

import math
import re
from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticCustomError


def whole_number(least: int, most: int | None = None) -> Callable[[Any], Any]:
    """A validator that accepts only digits, while pydantic also accepts ``5.0`` and ``1_0``.

    The bounds only appear in its message; the field itself checks them.
    """
    expected = f"a whole number of at least {least}"
    if most is not None:
        expected = f"a whole number from {least} to {most}"

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise PydanticCustomError("whole_number", "must be {expected}", {"expected": expected})
        return int(value)

    return read


def number(least: float, most: float) -> Callable[[Any], Any]:
    """A validator that accepts decimal numbers, not those without a value such as ``nan``.

    The bounds only appear in its message; the field itself checks them.
    """

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            expected = f"a number from {least:g} to {most:g}"
            raise PydanticCustomError("number", "must be {expected}", {"expected": expected})
        return found

    return read
