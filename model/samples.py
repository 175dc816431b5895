"""How samples become the 8 bits of a picture that a model takes, and which of them do."""

import math
from dataclasses import dataclass
from typing import Literal

RANGE_FORMS = "dtype, two numbers such as 0,4095, or two percentiles such as p2,p98"
BANDS_FORMS = "one or three numbers of bands, counted from 1, such as 4,3,2"


@dataclass(frozen=True)
class SampleRange:
    """The values that become 0 and 255; values between them are spread evenly.

    Attributes:
        kind: ``dtype``: what the type of the samples can hold (floating point: 0 and 1);
            ``values``: ``low`` and ``high``; ``percentiles``: those of the picture.
        low: the value, or the percentile from 0 to 100, that becomes 0.
        high: the value, or the percentile, that becomes 255.
    """

    kind: Literal["dtype", "values", "percentiles"] = "dtype"
    low: float = 0.0
    high: float = 0.0

    def __str__(self) -> str:
        if self.kind == "dtype":
            return self.kind
        mark = "p" if self.kind == "percentiles" else ""
        return f"{mark}{self.low:.17g},{mark}{self.high:.17g}"


def parse_range(text: str) -> SampleRange:
    """``0,4095``, ``p2,p98`` or ``dtype``.

    Raises:
        ValueError: says what is accepted.
    """
    if text == "dtype":
        return SampleRange()
    parts = [part.strip() for part in text.split(",")]
    percentiles = all(part.startswith("p") for part in parts)
    try:
        low, high = (float(part[1:] if percentiles else part) for part in parts)
    except ValueError:
        raise ValueError(RANGE_FORMS) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{RANGE_FORMS}, the lower one first")
    if percentiles and not 0 <= low < high <= 100:
        raise ValueError(f"{RANGE_FORMS}, from p0 to p100")
    return SampleRange("percentiles" if percentiles else "values", low, high)


def parse_bands(text: str) -> tuple[int, ...]:
    """``4,3,2``, or ``4`` for a grey picture.

    Raises:
        ValueError: says what is accepted.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 3) or not all(
        part.isascii() and part.isdigit() and len(part) < 6 and int(part) for part in parts
    ):
        raise ValueError(BANDS_FORMS)
    return tuple(map(int, parts))
