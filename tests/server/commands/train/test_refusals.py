"""Whatever cannot be used is one clear line, and nothing is written."""

import os
import resource

import pytest

from tests.server.commands.train.conftest import LABELS
from vimserve.server.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--held-out", "1"], "--held-out must be above 0 and below 1, not 1"),
        (["--cache-gb", "0"], "--cache-gb must be above 0, not 0"),
        (["--resolutions", "32,huge"], "--resolutions 32,huge: 'huge' is no size in pixels"),
        (["--resolutions", "0"], "'0' is no size in pixels"),
        (["--resolutions", "32,2048"], "--resolutions 2048 is above --max-resolution 1248"),
        (["--output", "mine.pth"], "--output mine.pth must be a file whose name ends in .safetens"),
        (["--backbone", "unheard-of"], "unknown model 'unheard-of': the catalog has"),
        (["--backbone", "demo-seg"], "--backbone demo-seg is a vim-upernet: a head is trained on"),
        (["--backbone", "demo-det"], "--backbone demo-det is a vim-cascade: a head is trained on"),
        (["--backbone", "own=/none"], "/none: no such file"),
        (["--head-only"], "a head alone needs a backbone of the catalog, tiny is a file"),
        (["--cache-gb", "0.000001"], "the features of 30 pictures take 7680 bytes, more than the"),
        (["--device", "cuda:77"], "device 'cuda:77' cannot be used"),
    ],
)
def test_flags(train, arguments, problem):
    ran = train(*arguments)
    assert ran.status == 1
    assert problem in ran.err
    assert ran.err.count("\n") == 1
    assert not ran.file.exists()


def test_data_are_needed(capsys):
    flags = ["train", "--backbone", "demo", "--output", "mine.safetensors"]
    assert main(flags) == 1
    assert capsys.readouterr().err == "vimserve: --task classify needs --data\n"


def test_an_empty_class_folder(train, pictures):
    (pictures / "empty, too").mkdir()
    ran = train()
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "no pictures of 1 classes are in" in ran.err
    assert "empty, too" in ran.err


def test_one_picture_in_a_class(train, pictures):
    for number in range(1, 10):
        (pictures / LABELS[0] / f"{number}.png").unlink()
    assert f"single pictures of 1 classes are in {pictures}: {LABELS[0]}" in train().err


def test_unreadable_files_are_named_and_counted_before_anything_is_made(train, pictures):
    (pictures / LABELS[0] / "text.png").write_text("no picture")
    whole = (pictures / LABELS[1] / "1.png").read_bytes()
    (pictures / LABELS[1] / "1.png").write_bytes(whole[:-40])
    ran = train()
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "2 of 31 pictures cannot be read: " in ran.err
    assert f"{LABELS[0]}/text.png (" in ran.err
    assert f"{LABELS[1]}/1.png (" in ran.err
    assert "--skip-unreadable goes on without them" in ran.err
    assert not ran.file.exists()
    skipped = train("--skip-unreadable")
    assert skipped.status == 0
    assert "2 pictures cannot be read, and are left out: " in skipped.err
    assert f"{LABELS[0]}/text.png (" in skipped.report


def test_a_class_of_unreadable_files(train, pictures):
    for number in range(9):
        (pictures / LABELS[2] / f"{number}.png").write_text("no picture")
    ran = train("--skip-unreadable")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert f"single pictures of 1 classes are left: {LABELS[2]}" in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(train, pictures):
    (pictures / LABELS[0] / "0.png").chmod(0)
    assert f"{LABELS[0]}/0.png (Permission denied)" in train().err


def test_too_large_a_picture(train):
    ran = train("--max-pixels", "1000")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "30 of 30 pictures cannot be read: " in ran.err


@pytest.mark.parametrize(
    ("room", "problem"),
    [(2000, "features cannot be kept in"), (20_000, "mine.safetensors cannot be written")],
)
def test_a_full_disk(train, room, problem):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        ran = train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert problem in ran.err
    assert "File too large" in ran.err
    assert not ran.file.parent.exists() or not [*ran.file.parent.iterdir()]
    assert train().status == 0
