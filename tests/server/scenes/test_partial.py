"""Results in the making: what is found of them, and what is refused."""

import json
import os
from pathlib import Path

import pytest

from vimserve.server.scenes.partial import Partial


@pytest.fixture
def output(tmp_path):
    return tmp_path / "mask.tif"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mask.tif.partial"


def test_rows_are_found(output):
    Partial(output, {"window": 64}).complete(3)
    assert Partial(output, {"window": 64}).rows == 3


def test_without_a_row_other_settings_begin_anew(output):
    Partial(output, {"bands": [1, 2, 3]})
    assert Partial(output, {"bands": [3, 2, 1]}).rows == 0
    Partial(output, {"bands": [3, 2, 1]}).complete(1)
    with pytest.raises(ValueError, match=r"belongs to other settings \(bands\)"):
        Partial(output, {"bands": [1, 2, 3]})


def test_killed_before_the_first_state_was_complete(output, folder):
    folder.mkdir()
    (folder / "state.json.new").touch()
    assert Partial(output, {}).rows == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 1', '{"rows": 1, "settings": null}'])
def test_a_damaged_state(output, folder, text):
    folder.mkdir()
    (folder / "state.json").write_text(text)
    with pytest.raises(ValueError, match=r"state.json is damaged; delete"):
        Partial(output, {})


def test_files_of_others_are_left_alone(output, folder):
    folder.mkdir()
    (folder / "thesis.txt").touch()
    with pytest.raises(ValueError, match="is in the way"):
        Partial(output, {})


@pytest.mark.parametrize("removed", range(3))
def test_killed_while_it_is_removed(output, folder, monkeypatch, removed):
    """Whatever is still there, no row counts as done."""
    partial = Partial(output, {})
    for name in ("classes", "left-0"):
        (folder / name).touch()
    partial.complete(5)
    unlink, left = os.unlink, [removed]

    def killed(path, *arguments, **options):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, *arguments, **options)

    monkeypatch.setattr(os, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        partial.remove()
    monkeypatch.undo()
    assert Partial(output, {}).rows == 0


def test_removed(output, folder):
    partial = Partial(output, {})
    (folder / "classes").touch()
    partial.remove()
    assert not folder.exists()


def test_the_name_of_a_state_is_on_the_disk_before_the_next_row(output, folder, monkeypatch):
    partial, synced, fsync = Partial(output, {}), [], os.fsync

    def record(file):
        rows = json.loads((folder / "state.json").read_text())["rows"]
        synced.append((Path(f"/proc/self/fd/{file}").resolve(), rows))
        fsync(file)

    monkeypatch.setattr(os, "fsync", record)
    partial.complete(1)
    assert synced == [(folder / "state.json.new", 0), (folder, 1)]
