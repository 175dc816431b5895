"""What it costs to decode an image, which its header tells."""

from dataclasses import dataclass

# Pillow's bytes for a pixel; it has 4 for all other modes.
BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
OTHERS = 4
# A row's own overhead.
ROW_BYTES = 16
# A strip on its way to RGB takes up to 16 bytes for a pixel; decoders have rows and tables.
STRIP_PIXELS, STRIP_BYTES, TABLE_BYTES = 2**20, 16, 2**18

# What takes at most some 50 ms on a slow core.
QUICK_PIXELS, QUICK_SCANNED_PIXELS = 4_000_000, 100_000_000


@dataclass(frozen=True)
class Cost:
    """The cost of decoding an image.

    Attributes:
        num_bytes: memory that it takes meanwhile.
        quick: whether it takes so little time that others hardly notice.
    """

    num_bytes: int
    quick: bool

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.num_bytes + other.num_bytes, self.quick and other.quick)


def picture_bytes(mode: str, height: int, width: int) -> int:
    """Memory of a picture that Pillow holds."""
    return height * (width * BYTES.get(mode, OTHERS) + ROW_BYTES)


def working_bytes(pixels: int) -> int:
    """Memory that decoding and conversion take beside the picture, whatever the format."""
    return TABLE_BYTES + STRIP_BYTES * min(pixels, STRIP_PIXELS)
