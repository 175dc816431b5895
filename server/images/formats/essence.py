"""What a decoder needs of a file; all formats are brought to this before Pillow sees them."""

from dataclasses import dataclass
from typing import NoReturn

from vimserve.server.errors import ImageTooComplex

Box = tuple[int, int, int, int]

# Reading a piece (a chunk, segment or block) takes about a microsecond, whatever it holds. This
# bounds it to some 100 ms for a body of 32 MB, in one file or in 32.
FREE_PIECES, BYTES_PER_PIECE = 1_000, 512


@dataclass(frozen=True)
class Essence:
    """A file without what the pixels of its first frame do not depend on.

    Attributes:
        data: the file, in its own format, without metadata and further frames.
        orientation: of EXIF, 1 to 8; 1 is upright.
        overhead: bytes per pixel of the original that a decoder takes beside the picture.
        passes: how often a decoder goes over the pixels.
        frame_pixels: of the largest frame, if it need not be as large as the image.
        trusted: whether ``passes`` is known, and decoding leaves Python's lock to others.
        clear: the sample or samples that a PNG calls transparent, as stored.
        covered: (left, top, right, bottom) of what a frame covers; None if that is everything.
    """

    data: bytes
    orientation: int = 1
    overhead: float = 0
    passes: float = 1
    frame_pixels: int = 0
    trusted: bool = True
    clear: tuple[int, ...] | None = None
    covered: Box | None = None


class Pieces:
    """Counts the pieces of a file.

    Args:
        name: what the format calls a piece, in the plural.
        num_bytes: of the file.
    """

    def __init__(self, name: str, num_bytes: int) -> None:
        self._name = name
        self._most = FREE_PIECES + num_bytes // BYTES_PER_PIECE
        self._count = 0

    def count(self) -> None:
        """Count one more.

        Raises:
            ImageTooComplex: if the file has more than its size justifies.
        """
        self._count += 1
        if self._count > self._most:
            refuse(f"{self._name} for its size", self._most, self._count)


def refuse(what: str, limit: int, value: int) -> NoReturn:
    """Refuse a file that would cost more than its pixels justify.

    Raises:
        ImageTooComplex: always.
    """
    raise ImageTooComplex(
        f"the image has too many {what}: more than {limit}; save it anew", limit=limit, value=value
    )
