"""What follows the question mark of ``NAME=FILE?option=value&…``."""

from collections.abc import Callable, Mapping
from typing import Any

Parser = Callable[[str], Any]


def one_of(choices: tuple[str, ...]) -> Parser:
    """A parser of one of a few words."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return parse


def yes_or_no(value: str) -> bool:
    """A parser of what is so or is not."""
    if value not in ("yes", "no"):
        raise ValueError("yes or no")
    return value == "yes"


def number(kind: Callable[[str], float]) -> Parser:
    """A parser of numbers of a kind."""

    def parse(value: str) -> float:
        try:
            return kind(value)
        except ValueError:
            raise ValueError("a number") from None

    return parse


def native(value: str) -> int | None:
    """A parser of a size in pixels, or ``native`` for a picture's own, which is None."""
    try:
        return None if value == "native" else int(value)
    except ValueError:
        raise ValueError("a number, or native") from None


def numbers(value: str) -> tuple[int, ...]:
    """A parser of whole numbers with commas between them."""
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise ValueError("whole numbers with commas between them") from None


def parse_options(options: Mapping[str, str], parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """The values of those ``options`` that ``parsers`` know.

    Raises:
        ValueError: naming the option, its value and what it should be.
    """
    chosen = {}
    for option, parse in parsers.items():
        if option in options:
            try:
                chosen[option] = parse(options[option])
            except ValueError as error:
                raise ValueError(f"{option}={options[option]!r} is not {error}") from error
    return chosen
