from collections import Counter
from pathlib import Path

import pytest

from vimserve.model.heads.data import Picture, read_folders, remarks, split


def make(root: Path, **counts: int) -> Path:
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{number}.png").write_bytes(b"")
    return root


def test_classes_are_folders_and_pictures_lie_in_them_at_any_depth(tmp_path: Path) -> None:
    make(tmp_path, b=2, a=3)
    (tmp_path / "a" / "more").mkdir()
    (tmp_path / "a" / "more" / "x.JPG").write_bytes(b"")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    data = read_folders(tmp_path)
    assert data.labels == ("a", "b")
    assert [one.name for one in data.pictures] == [
        "a/0.png", "a/1.png", "a/2.png", "a/more/x.JPG", "b/0.png", "b/1.png"
    ]  # fmt: skip
    assert data.counts() == {"a": 4, "b": 2}


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({}, "needs a folder of pictures for each of at least two classes, it has none"),
        ({"a": 3}, "at least two classes, it has only 'a'"),
        ({"a": 3, "b": 0, "c": 0}, "no pictures of 2 classes are in .*: b, c"),
        ({"a": 3, "b": 1}, "single pictures of 1 classes are in .*: b"),
    ],
)
def test_too_few_classes_or_pictures_are_refused(tmp_path, counts, problem) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        read_folders(make(tmp_path, **counts))
    assert "\n" not in str(caught.value)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--data .*none does not exist"):
        read_folders(tmp_path / "none")


def test_leaving_out_the_last_but_one_of_a_class_is_refused(tmp_path: Path) -> None:
    data = read_folders(make(tmp_path, a=3, b=2))
    assert len(data.without(["a/0.png"]).pictures) == 4
    with pytest.raises(ValueError, match="single pictures of 1 classes are left: b"):
        data.without(["b/0.png"])


def pictures(count: int, label: int) -> list[Picture]:
    return [Picture(f"{label}/{number}", Path(), label) for number in range(count)]


def test_each_class_has_its_share_held_out_and_at_least_one() -> None:
    every = [*pictures(100, 0), *pictures(10, 1), *pictures(2, 2)]
    train, held = split(every, 0.2, seed=5)
    assert Counter(one.label for one in held) == {0: 20, 1: 2, 2: 1}
    assert sorted([*train, *held], key=every.index) == every
    assert split(every, 0.2, seed=5) == (train, held)
    assert split(every, 0.2, seed=6) != (train, held)
    assert Counter(one.label for one in split(every, 0.99, seed=5)[0]) == {0: 1, 1: 1, 2: 1}


def test_a_further_picture_moves_few() -> None:
    every = pictures(100, 0)
    before = {one.name for one in split(every, 0.2, 0)[1]}
    after = {one.name for one in split([*every, Picture("0/new", Path(), 0)], 0.2, 0)[1]}
    assert len(before & after) >= 19


def test_what_is_odd_is_named(tmp_path: Path) -> None:
    told = [*remarks(read_folders(make(tmp_path / "odd", many=20, few=4, rare=2)))]
    assert len(told) == 2
    assert "'many' has 20 pictures, 'rare' has 2" in told[0]
    assert told[1] == "fewer than 5 pictures of 2 classes: few, rare"
    assert [*remarks(read_folders(make(tmp_path / "even", a=8, b=9)))] == []


def test_a_file_that_changes_has_another_key(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(b"1")
    picture = Picture("x.png", file)
    before = picture.key()
    assert picture.key() == before
    file.write_bytes(b"12")
    assert picture.key() != before


def test_names_of_any_bytes_are_names_of_pictures_but_not_of_classes(tmp_path: Path) -> None:
    make(tmp_path, a=3, b=3)
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "\udcff.png")
    every = read_folders(tmp_path).pictures
    assert len(split(every, 0.3, 0)[0]) == 4
    (tmp_path / "b").rename(tmp_path / "\udcfe")
    with pytest.raises(ValueError, match=r"names cannot be labels: .*udcfe"):
        read_folders(tmp_path)
