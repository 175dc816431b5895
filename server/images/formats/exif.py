"""The orientation in EXIF metadata; nothing else in them matters for the pixels."""

import struct

ORIENTATION, SHORT, LONG = 0x0112, 3, 4
# The tags of a camera's first directory are some dozens.
MOST_ENTRIES = 1000


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8; 1, which is upright, if there is none or the data are damaged.

    Args:
        exif: a TIFF header and a directory, perhaps after ``Exif`` and two zero bytes (CIPA
            DC-008, 4.5 and 4.7.2).
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for i in range(min(entries, MOST_ENTRIES)):
            entry = start + 2 + 12 * i
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == ORIENTATION and kind in (SHORT, LONG):
                form = order + ("H" if kind == SHORT else "I")
                (value,) = struct.unpack_from(form, exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
