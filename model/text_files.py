"""Text files that users write, with whatever their editors put before the text."""

import codecs
from pathlib import Path


def read_text(path: Path) -> str:
    """A file's text without a byte-order mark, in UTF-8 or, if its mark says so, in UTF-16.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is in another encoding.
    """
    data = path.read_bytes()
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")
