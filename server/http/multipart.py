"""The files of a multipart form, collected while its bytes arrive.

Starlette's own parser spools to disk, and only the text of an error tells of too many files.
"""

import re
from urllib.parse import unquote

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartState, parse_options_header

from vimserve.server.errors import MalformedMultipart, MissingFile, TooManyImages, TooManyParts

# Form fields that a request may have besides its files. Each costs some 10 µs, and so does each
# line that only begins like a boundary.
MOST_OTHER_FIELDS = 100
# Blanks behind a boundary, which RFC 2046 allows, where a write ends in them; each costs 0.5 µs.
MOST_PADDING = 1000

# RFC 7578 forbids a file name in this form, but some clients send nothing else.
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*(?:([\w-]*)'[^';]*')?([^;\s]*)", re.IGNORECASE)
# A part without a file name is a file all the same if its type is one of these.
_FILE_TYPES = (b"image/", b"application/octet-stream")


class FileFields:
    """Parses a multipart body: call ``write`` for each chunk, then ``finish``.

    Args:
        content_type: value of the Content-Type header.
        field: name of the fields with files; other fields are read and dropped.
        max_files: most files in the body.

    Raises:
        MalformedMultipart: from any method.
        TooManyImages: as soon as there are more than ``max_files``.
        TooManyParts: as soon as there are ``MOST_OTHER_FIELDS`` more than that.
    """

    def __init__(self, content_type: str, field: str, max_files: int) -> None:
        self._field = field
        self._max_files = max_files
        self._files: list[tuple[str, bytearray]] = []
        self._boundaries = 0
        self._padding = 0
        self._texts = 0
        self._ended = False
        self._wanted = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _malformed("its Content-Type has no boundary")
        self._delimiter = b"\n--" + boundary
        # The last bytes, in which a delimiter may begin; the body begins a line.
        self._tail = b"\n"
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        data = self._count_boundaries(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(str(error)) from error
        if self._parser.state == MultipartState.BOUNDARY_PADDING:
            self._padding += len(data) - len(data.rstrip(b" \t"))
        if self._padding > MOST_PADDING:
            raise _malformed(f"more than {MOST_PADDING} blanks follow a boundary")

    def finish(self) -> list[tuple[str, bytearray]]:
        """(name, bytes) of every file.

        Raises:
            MissingFile: if there is none.
        """
        if not self._boundaries:
            raise _malformed("no line of it is the boundary that its Content-Type names")
        if not self._ended:
            raise _malformed("it ends before its last boundary")
        if not self._files:
            raise self._missing()
        return self._files

    def _count_boundaries(self, data: bytes) -> bytes:
        """The data, without what stands before the first boundary: RFC 2046 ignores it."""
        text = self._tail + data
        self._tail = text[1 - len(self._delimiter) :]
        first = not self._boundaries
        self._boundaries += text.count(self._delimiter)
        most = self._max_files + MOST_OTHER_FIELDS
        if self._boundaries > most + 1:  # the last one ends the form
            raise TooManyParts(
                f"the form has more than {most} fields; send only those named {self._field!r}",
                limit=most,
                value=self._boundaries - 1,
            )
        if not first:
            return data
        return text[text.index(self._delimiter) + 1 :] if self._boundaries else b""

    def _missing(self) -> MissingFile:
        detail = f"the multipart body has no file in a field named {self._field!r}"
        if self._texts:
            detail += (
                ": the part of this name has neither filename= in its Content-Disposition nor an "
                "image's Content-Type, so it is text"
            )
        return MissingFile(detail, parameter=self._field, limit=1, value=0)

    def _on_part_begin(self) -> None:
        self._headers.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        self._wanted = False
        disposition = self._headers.get(b"content-disposition", b"")
        options = parse_options_header(disposition)[1]
        if options.get(b"name") != self._field.encode():
            return
        name = _file_name(options.get(b"filename"), disposition)
        media_type = self._headers.get(b"content-type", b"").lower()
        if name is None and not media_type.startswith(_FILE_TYPES):
            self._texts += 1
            return
        self._wanted = True
        if len(self._files) == self._max_files:
            raise TooManyImages(
                f"the request has more files than the {self._max_files} accepted",
                limit=self._max_files,
                value=self._max_files + 1,
                parameter=self._field,
            )
        self._files.append((name or f"file {len(self._files) + 1}", bytearray()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._files[-1][1].extend(data[start:end])

    def _on_end(self) -> None:
        self._ended = True


def _file_name(given: bytes | None, disposition: bytes) -> str | None:
    """The file's name, which may be empty; None if the part does not say that it is a file."""
    if given is not None:
        return given.decode("utf-8", "replace")
    if extended := _EXTENDED_NAME.search(disposition):
        charset, name = extended[1] or b"utf-8", extended[2].decode("latin-1")
        return unquote(name, "utf-8" if charset.lower() == b"utf-8" else "latin-1")
    return None


def _malformed(reason: str) -> MalformedMultipart:
    return MalformedMultipart(
        f"the multipart body cannot be read: {reason}",
        limit="multipart/form-data (RFC 7578)",
        value=reason,
    )
