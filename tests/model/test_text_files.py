import codecs
from pathlib import Path

import pytest

from vimserve.model.class_names import read_labels
from vimserve.model.palette import read_palette
from vimserve.model.text_files import read_text

MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,  # what Windows calls Unicode
    "utf-16-be": codecs.BOM_UTF16_BE,
}
with_a_mark = pytest.mark.parametrize("encoding", MARKED)


def write(path: Path, text: str, encoding: str) -> Path:
    path.write_bytes(MARKED[encoding] + text.encode(encoding))
    return path


@with_a_mark
def test_a_mark_is_no_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    assert (
        read_text(write(tmp_path / "a", "Käfer\r\nFliege\r\n", encoding)) == "Käfer\r\nFliege\r\n"
    )


def test_a_mark_inside_a_text_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a\ufeffb", encoding="utf-8")
    assert read_text(tmp_path / "a") == "a\ufeffb"


@with_a_mark
@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "Käfer\r\nFliege\r\n"), ("a.json", '["Käfer", "Fliege"]'),
     ("A.JSON", '{"labels": ["Käfer", "Fliege"]}')],
)  # fmt: skip
def test_labels_have_no_mark(tmp_path: Path, encoding: str, name: str, text: str) -> None:
    assert read_labels(write(tmp_path / name, text, encoding), 2) == ("Käfer", "Fliege")


@with_a_mark
def test_palettes_may_have_a_mark(tmp_path: Path, encoding: str) -> None:
    assert read_palette(write(tmp_path / "a.json", "[[1, 2, 3]]", encoding), 1) == ((1, 2, 3),)


def test_another_encoding_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Käfer\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels .*a\.txt: .*utf-8"):
        read_labels(tmp_path / "a.txt", 1)
