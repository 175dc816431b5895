"""The files of a multipart form, collected while its bytes arrive.

Starlette's own parser spools to disk, and only the text of an error tells of too many files.
"""

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from vimserve.server.errors import MalformedMultipart, MissingFile, TooManyImages


class FileFields:
    """Parses a multipart body: call ``write`` for each chunk, then ``finish``.

    Args:
        content_type: value of the Content-Type header.
        field: name of the fields with files; other fields are read and dropped.
        max_files: most files in the body.

    Raises:
        MalformedMultipart: from any method.
        TooManyImages: as soon as there are more than ``max_files``.
    """

    def __init__(self, content_type: str, field: str, max_files: int) -> None:
        self._field = field
        self._max_files = max_files
        self._files: list[tuple[str, bytearray]] = []
        self._ended = False
        self._wanted = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _malformed("its Content-Type has no boundary")
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
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def finish(self) -> list[tuple[str, bytearray]]:
        """(name, bytes) of every file.

        Raises:
            MissingFile: if there is none.
        """
        if not self._ended:
            raise _malformed("it ends before its last boundary")
        if not self._files:
            raise MissingFile(
                f"the multipart body has no file in a field named {self._field!r}",
                parameter=self._field,
                limit=1,
                value=0,
            )
        return self._files

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._wanted = options.get(b"name") == self._field.encode() and b"filename" in options
        if not self._wanted:
            return
        if len(self._files) == self._max_files:
            raise TooManyImages(
                f"the request has more files than the {self._max_files} accepted",
                limit=self._max_files,
                value=self._max_files + 1,
                parameter=self._field,
            )
        name = options[b"filename"].decode("utf-8", "replace")
        self._files.append((name or f"file {len(self._files) + 1}", bytearray()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._files[-1][1].extend(data[start:end])

    def _on_end(self) -> None:
        self._ended = True


def _malformed(reason: str) -> MalformedMultipart:
    return MalformedMultipart(
        f"the multipart body cannot be read: {reason}",
        limit="multipart/form-data (RFC 7578)",
        value=reason,
    )
