import json

import pytest

from vimserve.model.palette import make_palette, read_palette


def test_the_colours_of_pascal_voc() -> None:
    palette = make_palette(256)
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[255] == (224, 224, 192)
    assert len(set(palette)) == 256


@pytest.mark.parametrize("wrap", [list, lambda colors: {"palette": colors}])
def test_a_file_of_colours(tmp_path, wrap) -> None:
    file = tmp_path / "palette.json"
    file.write_text(json.dumps(wrap([[1, 2, 3], [255, 0, 0]])))
    assert read_palette(file, 2) == ((1, 2, 3), (255, 0, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[1, 2, 3]]", "1 colours for 2 classes"),
        ("[[1, 2, 3], [1, 2, 256]]", "each from 0 to 255"),
        ("[[1, 2, 3], [1, 2]]", "neither a list"),
        ('{"colors": []}', "neither a list"),
        ("{", "palette.json"),
    ],
)
def test_what_is_no_palette(tmp_path, content, message) -> None:
    file = tmp_path / "palette.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_palette(file, 2)
