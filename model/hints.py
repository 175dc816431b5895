"""What a checkpoint file says of its model beside its tensors, and what is assumed for the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hints:
    """Where training scripts leave what tensors cannot tell.

    Attributes:
        trained_as: the name of the architecture among the training arguments, if they are there.
        file: name of the file.
    """

    trained_as: str = ""
    file: str = ""


@dataclass(frozen=True)
class Assumption:
    """The value of an option that nobody has given and no tensor tells.

    Attributes:
        option: its name.
        value: as the option's parser would return it.
        why: what speaks for it.
        otherwise: a value that its tensors would fit as well.
    """

    option: str
    value: Any
    why: str
    otherwise: Any


def in_words(assumptions: Sequence[Assumption]) -> str:
    """One sentence for the log: what is assumed, why, and how to say otherwise; or nothing."""
    if not assumptions:
        return ""
    assumed = ", ".join(f"{a.option}={_text(a.value)} ({a.why})" for a in assumptions)
    otherwise = "&".join(f"{a.option}={_text(a.otherwise)}" for a in assumptions)
    return f"its tensors leave open what is assumed: {assumed}; otherwise say NAME=FILE?{otherwise}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
