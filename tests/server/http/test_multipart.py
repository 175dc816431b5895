"""Forms as clients really write them, in pieces of any size."""

import pytest

from vimserve.server.errors import MalformedMultipart, MissingFile, TooManyImages, TooManyParts
from vimserve.server.http.multipart import MOST_OTHER_FIELDS, MOST_PADDING, FileFields

PIXELS = b"\xff\xd8\r\n--\r\n--edg\r\n\n--\x00 pixels"
END = b"\r\n--edge--\r\n"


def part(*headers, data=PIXELS):
    return b"\r\n".join([b"--edge", *(header.encode() for header in headers), b"", data])


def named(rest):
    return f'Content-Disposition: form-data; name="file"{rest}'


def read(body, size=None, max_files=3):
    fields = FileFields("multipart/form-data; boundary=edge", "file", max_files)
    size = size or len(body) or 1
    for start in range(0, len(body), size):
        fields.write(body[start : start + size])
    return [(name, bytes(data)) for name, data in fields.finish()]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, None])
@pytest.mark.parametrize(
    "preamble",
    [
        b"",
        b"\r\n",
        b"\n",
        b"This is a multi-part message in MIME format.\r\n",
        b"two\r\nlines, --edge in one of them\r\n",
        b"- --edg\r\n--edg\r\n\r\n--\r\n",
    ],
)
def test_text_before_the_first_boundary_is_ignored(preamble, size):
    body = preamble + part(named('; filename="a.png"')) + END + b"text behind the last one"
    assert read(body, size) == [("a.png", PIXELS)]


@pytest.mark.parametrize("size", [1, 5, None])
def test_blanks_behind_a_boundary(size):
    first, second = (part(named(f"; filename={name}"), data=b"x") for name in "ab")
    body = first + b"\r\n" + second.replace(b"--edge", b"--edge \t", 1) + END
    assert read(body, size) == [("a", b"x"), ("b", b"x")]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('; filename="a.png"', "a.png"),
        ("; filename=a.png", "a.png"),
        ('; filename=""', "file 1"),
        ("; filename*=UTF-8''%E5%9B%BE.jpg", "图.jpg"),
        ("; FileName* = utf-8'en'na%C3%AFve%20one.png", "naïve one.png"),
        ("; filename*=iso-8859-1''na%EFve.png", "naïve.png"),
        ("; filename*=UTF-8''%FF.png", "\ufffd.png"),
        ("; filename*=idna''a.png", "a.png"),
        ("; filename*=a.png", "a.png"),
        ("; filename*=", "file 1"),
        ("; filename*=UTF-8''b.png; filename=a.png", "a.png"),
    ],
)
def test_a_file_is_known_by_its_name(disposition, name):
    assert read(part(named(disposition)) + END) == [(name, PIXELS)]


@pytest.mark.parametrize(
    "media_type", ["image/jpeg", "IMAGE/PNG", "image/x-unknown; q=1", "application/octet-stream"]
)
def test_a_file_is_known_by_its_type(media_type):
    body = part(named(""), f"content-type: {media_type}") + b"\r\n" + part(named("; filename=b"))
    assert read(body + END) == [("file 1", PIXELS), ("b", PIXELS)]


def test_a_type_holds_for_its_own_part():
    image = 'Content-Disposition: form-data; name="other"', "Content-Type: image/png"
    with pytest.raises(MissingFile, match="neither filename= in its Content-Disposition nor an"):
        read(part(*image) + b"\r\n" + part(named("")) + END)


@pytest.mark.parametrize("headers", [[named("")], [named(""), "Content-Type: text/plain"]])
def test_a_text_of_that_name_is_told_what_it_lacks(headers):
    with pytest.raises(MissingFile, match="filename= in its Content-Disposition") as caught:
        read(part(*headers) + END)
    assert (caught.value.parameter, caught.value.value) == ("file", 0)


def test_no_field_of_that_name():
    with pytest.raises(MissingFile) as caught:
        read(part('Content-Disposition: form-data; name="image"; filename="a.png"') + END)
    assert "filename=" not in caught.value.detail


@pytest.mark.parametrize("size", [1, 100, None])
@pytest.mark.parametrize("most", [1, 3])
def test_other_fields_are_bounded(most, size):
    other = part('Content-Disposition: form-data; name="x"', data=b"") + b"\r\n"
    file = part(named("; filename=a"))
    fitting = most - 1 + MOST_OTHER_FIELDS
    assert read(fitting * other + file + END, size, most) == [("a", PIXELS)]
    with pytest.raises(TooManyParts) as caught:
        read((fitting + 1) * other + file + END, size, most)
    assert (caught.value.limit, caught.value.value) == (fitting + 1, fitting + 2)


@pytest.mark.parametrize("size", [100, None])
def test_lines_that_only_begin_like_a_boundary_are_bounded(size):
    few, many = (number * b"\r\n--edgewise" for number in (MOST_OTHER_FIELDS, 1000))
    file = part(named("; filename=a"), data=b"")
    assert read(file + few + END, size) == [("a", few)]
    with pytest.raises(TooManyParts):
        read(file + many + END, size)


def test_blanks_behind_a_boundary_are_bounded():
    body = part(named("; filename=a")) + b"\r\n--edge" + 2 * MOST_PADDING * b" " + b"\r\n"
    with pytest.raises(MalformedMultipart, match="blanks follow a boundary"):
        read(body, 500)


def test_blanks_in_a_file_are_not():
    blanks = 5 * MOST_PADDING * b" "
    body = part(named("; filename=a"), data=blanks) + b"\r\n--edge \r\n"
    assert read(body + named("; filename=b").encode() + b"\r\n\r\n2" + END, 500) == [
        ("a", blanks),
        ("b", b"2"),
    ]


def test_files_are_bounded():
    with pytest.raises(TooManyImages):
        read(b"\r\n".join(4 * [part(named("; filename=a"))]) + END)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no line of it is the boundary"),
        (b"text, then --edge\r\n", "no line of it is the boundary"),
        (part(named("; filename=a")), "ends before its last boundary"),
        (b"--edge\r\nno header\r\n\r\n", "invalid character"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(body, reason):
    with pytest.raises(MalformedMultipart, match=reason):
        read(body)
