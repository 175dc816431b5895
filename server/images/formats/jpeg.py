"""JPEG: what precedes the first scan, and how many scans there are.

Format: ITU-T T.81, Annex B (https://www.w3.org/Graphics/JPEG/itu-t81.pdf).
"""

import struct
from collections.abc import Iterator
from mmap import mmap

import numpy as np

from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.formats.essence import Essence, Pieces, refuse
from vimserve.server.images.formats.exif import orientation

START = b"\xff\xd8"
SCAN, END, JPEG_LS = 0xDA, 0xD9, 0xF7
TABLES = (0xC4, 0xCC, 0xDB, 0xDD)  # Huffman, arithmetic, quantization; restart interval
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
HIERARCHICAL = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE)
APP0, APP1, ADOBE = 0xE0, 0xE1, 0xEE
# Markers without a length: TEM, restarts and the start of an image.
BARE = frozenset({0x01, *range(0xD0, 0xD9)})

# All tables together are below 3 kB; Pillow reads them in Python.
MOST_HEADER_BYTES = 2**16
# Encoders write 6 to 15 scans. An empty one takes 0.1 to 0.3 ns for each pixel, and a microsecond.
FREE_SCANS, FREE_SCANNED_PIXELS, LEAST_SCANNED = 32, 500_000_000, 2**13

BLOCK = 2**20


def essence(data: bytes) -> Essence:
    """The tables, the frame header and all that follows the first scan's marker.

    Raises:
        UnsupportedImage: 12 bits, JPEG-LS, hierarchical.
        ImageTooComplex: more scans, or more before them, than its size justifies.
    """
    kept, exif, frame, kind = bytearray(START), b"", b"", 0
    start = len(data)
    for marker, position, segment in segments(data):
        if marker in FRAMES or marker in (JPEG_LS, *HIERARCHICAL):
            kind, frame = marker, segment
            _check_frame(marker, frame)
        if marker in (SCAN, END):
            start = position
            break
        if marker in TABLES or marker in FRAMES or _tells_colours(marker, segment):
            kept += struct.pack(">BBH", 0xFF, marker, len(segment) + 2) + segment
        elif marker == APP1 and segment.startswith(b"Exif\0\0") and not exif:
            exif = segment
        if len(kept) > MOST_HEADER_BYTES:
            refuse("bytes of tables", MOST_HEADER_BYTES, len(kept))
    scans = _check_scans(data, start, frame)
    several = kind in PROGRESSIVE or scans > 1
    return Essence(
        bytes(kept) + data[start:],
        orientation(exif),
        overhead=coefficient_bytes(frame) if several else 0,
        passes=scans if several else 1,
    )


def segments(data: bytes | mmap) -> Iterator[tuple[int, int, bytes]]:
    """Marker, position and content of each segment to the first scan's, that included."""
    position, pieces = len(START), Pieces("segments", len(data))
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        pieces.count()
        marker = data[position + 1]
        if marker in BARE or marker in (0x00, 0xFF):
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        yield marker, position, data[position + 4 : position + 2 + length]
        if marker in (SCAN, END):
            return
        position += 2 + length


def _tells_colours(marker: int, segment: bytes) -> bool:
    return (marker == APP0 and segment.startswith(b"JFIF\0")) or (
        marker == ADOBE and segment.startswith(b"Adobe")
    )


def _check_frame(marker: int, frame: bytes) -> None:
    bits = frame[0] if frame else 8
    if marker == JPEG_LS:
        name = "JPEG-LS"
    elif marker in HIERARCHICAL:
        name = "hierarchical JPEG"
    elif bits != 8:
        name = f"JPEG of {bits} bits"
    else:
        return
    raise UnsupportedImage(
        f"{name} is not supported; save the image as JPEG of 8 bits, or as PNG",
        limit="JPEG of 8 bits",
        value=name,
    )


def _check_scans(data: bytes, start: int, frame: bytes) -> int:
    if len(frame) < 6:
        return 1
    height, width = struct.unpack_from(">HH", frame, 1)
    most = FREE_SCANS + FREE_SCANNED_PIXELS // max(height * width, LEAST_SCANNED)
    scans = _at_most(data, start)
    if scans > most:
        # Tables, comments and what follows the image may have had such bytes too.
        scans = sum(1 for _ in _scans(data, start))
    if scans > most:
        refuse(f"scans for {height}x{width} pixels", most, scans)
    return scans


def _at_most(data: bytes, start: int) -> int:
    """How often the marker of a scan occurs: pixels never have its bytes, other segments may."""
    # Unlike bytes.count, NumPy leaves Python's lock to others.
    values = np.frombuffer(data, np.uint8)
    count = 0
    for block in range(start, len(data), BLOCK):
        here = values[block : block + BLOCK + 1]
        count += int(np.count_nonzero((here[:-1] == 0xFF) & (here[1:] == SCAN)))
    return count


def _scans(data: bytes, start: int) -> Iterator[int]:
    """Positions of the markers of scans up to the image's end.

    Raises:
        ImageTooComplex: more segments than the file's size justifies.
    """
    markers, pieces = _markers(data, start), Pieces("segments", len(data))
    position = start
    while True:
        pieces.count()
        index = np.searchsorted(markers, position)
        if index == len(markers):
            return
        position = int(markers[index])
        marker = data[position + 1]
        if marker == END or position + 4 > len(data):
            return
        if marker == SCAN:
            yield position
        (length,) = struct.unpack_from(">H", data, position + 2)
        position += 2 + length


def _markers(data: bytes, start: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions of all markers with a length, and of bytes in segments that look like one."""
    values = np.frombuffer(data, np.uint8)
    bare = np.zeros(256, dtype=bool)
    bare[[0x00, 0xFF, *BARE]] = True
    found = []
    for block in range(start, len(data), BLOCK):
        here = values[block : block + BLOCK + 1]
        first = np.flatnonzero(here[:-1] == 0xFF)
        found.append(first[~bare[here[first + 1]]] + block)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def coefficient_bytes(frame: bytes) -> float:
    """Bytes per pixel of the coefficients, two for each, which libjpeg keeps between scans."""
    factors = [(byte >> 4, byte & 15) for byte in frame[7::3]]
    if not factors or not all(h and v for h, v in factors):
        return 0
    largest = max(h for h, _ in factors) * max(v for _, v in factors)
    return 2 * sum(h * v for h, v in factors) / largest
