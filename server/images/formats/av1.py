"""AV1 bitstreams: how many frames there are, and how large.

Format: AV1 Bitstream & Decoding Process Specification, 5.3 to 5.5 (https://aomediacodec.github.io/
av1-spec/av1-spec.pdf).
"""

from collections.abc import Iterator

from vimserve.server.images.formats.essence import Pieces

SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6
MOST_SIZE_BYTES = 8


class Bits:
    """Reads a bitstream; past its end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number."""
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else 0
        return shifted & ((1 << count) - 1)

    def skip_uvlc(self) -> None:
        """Skip a number of variable length."""
        zeros = 0
        while zeros < 32 and self._left > 0 and not self.take(1):
            zeros += 1
        self.take(zeros)


def frames(data: bytes, pieces: Pieces) -> tuple[int, int]:
    """The number of frames in a bitstream, and the pixels of the largest that it may have.

    Raises:
        ImageTooComplex: more units than the file's size justifies.
    """
    count = largest = 0
    for kind, payload in _units(data, pieces):
        if kind == SEQUENCE_HEADER:
            width, height = frame_size(payload)
            largest = max(largest, width * height)
        count += kind in (FRAME_HEADER, FRAME)
    return count, largest


def _units(data: bytes, pieces: Pieces) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        pieces.count()
        head = data[position]
        position += 2 if head & 0x04 else 1
        size = len(data) - position
        if head & 0x02:
            size, position = _leb128(data, position)
        kind = head >> 3 & 15
        # Only a sequence header, which is short, is read.
        yield kind, data[position : position + min(size, 256)]
        position += size


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[position : position + MOST_SIZE_BYTES]):
        value |= (byte & 0x7F) << 7 * i
        if not byte & 0x80:
            return value, position + i + 1
    return value, position + MOST_SIZE_BYTES


def frame_size(header: bytes) -> tuple[int, int]:
    """The largest (width, height) that a sequence header allows."""
    bits = Bits(header)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # a reduced header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            bits.skip_uvlc()
        if bits.take(1):  # decoder model
            delay_bits = bits.take(5) + 1
            bits.take(42)
    displays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if displays and bits.take(1):
            bits.take(4)
