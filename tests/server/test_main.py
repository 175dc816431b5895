"""The command: exit statuses and what a person reads."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.paths import ROOT
from tests.patience import PATIENCE_S
from tests.processes import Command
from tests.server.images.tiff.writer import tiff
from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.sources import HubFile
from vimserve.server.__main__ import main


@pytest.fixture
def catalog_of_one(tiny, spec, monkeypatch):
    monkeypatch.setattr("vimserve.server.commands.predict.pictures.resolve", lambda name: spec)
    monkeypatch.setenv("VIMSERVE_MODEL", spec.name)


def one_line(text):
    assert text.startswith("vimserve: ")
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize("arguments", [[], ["serve"], ["predict"], ["evaluate"], ["models"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: vimserve")


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("vimserve ")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--prot", "1"], ["predict"]])
def test_a_wrong_command_line(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    one_line(capsys.readouterr().err)


def test_a_wrong_setting(capsys):
    assert main(["serve", "--port", "http"]) == 2
    assert "'http'" in one_line(capsys.readouterr().err)


def test_predict(catalog_of_one, picture, tmp_path, capsys):
    files = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for seed, file in enumerate(files):
        picture(40 + 50 * seed, 70, seed).save(file)
    assert main(["predict", *map(str, files), "--top-k", "2", "--fit", "contain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[3]] == list(map(str, files))
    assert all("%  class " in lines[i] for i in (1, 2, 4, 5))


def test_predict_with_a_range(catalog_of_one, tmp_path, capsys):
    file = tmp_path / "grey.tif"
    file.write_bytes(tiff(np.full((20, 30, 1), 900, np.uint16), 16))
    assert main(["predict", str(file), "--range", "0,4095", "--bands", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  samples from 0 to 4095"


def test_predict_names_what_it_cannot_read_and_answers_the_rest(
    catalog_of_one, picture, tmp_path, capsys
):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    picture(40, 40).save(good)
    bad.write_text("not an image")
    assert main(["predict", str(bad), str(good), str(tmp_path / "missing.png")]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(str(good))
    refused, missing = captured.err.splitlines()
    assert refused.startswith(f"vimserve: {bad}: the bytes are not an image")
    assert missing == f"vimserve: {tmp_path / 'missing.png'}: No such file or directory"


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_weights_that_cannot_be_served_are_one_line(command, picture, tmp_path):
    file, image = tmp_path / "int8.pth", tmp_path / "a.png"
    state = Vim(VimConfig(width=32, depth=1, num_classes=3, grid=(4, 4))).state_dict()
    torch.save(state | {"head.weight": state["head.weight"].to(torch.int8)}, file)
    picture(40, 40).save(image)
    arguments = {"predict": [str(image)], "serve": ["--port", "0", "--log-level", "error"]}
    with Command(command, "--model", f"mine={file}", *arguments[command]) as running:
        status, log = running.ended()
    assert status == 1
    assert f"{file}: weights of int8 cannot be served" in one_line(log)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top-k", "8"], "top_k must be from 1 to 7"),
        (["--resolution", "nan"], "resolution must be 'native' or"),
        (["--device", "nonsense"], "device 'nonsense' cannot be used"),
    ],
)
def test_predict_with_a_wrong_parameter(catalog_of_one, flags, message, capsys):
    assert main(["predict", "a.png", *flags]) == 1
    assert message in one_line(capsys.readouterr().err)


def test_segment(picture, tmp_path, capsys):
    file, mask, page = tmp_path / "a.png", tmp_path / "mask.png", tmp_path / "overlay.jpg"
    picture(60, 90).save(file)
    assert main(["predict", "--task", "segment", str(file), "-o", str(mask)]) == 0
    name, *classes = capsys.readouterr().out.splitlines()
    assert name == str(file)
    shares = [float(line.split("%")[0]) for line in classes]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert shares == sorted(shares, reverse=True)
    with Image.open(mask) as written:
        assert (written.mode, written.size) == ("P", (90, 60))
        assert len(written.getcolors() or []) == len(classes)

    flags = ["--format", "overlay", "--mode", "slide", "--window", "128"]
    assert main(["predict", "--task", "segment", str(file), "-o", str(page), *flags]) == 0
    with Image.open(page) as written:
        assert written.format == "JPEG"
        assert written.height > 60

    for form in ("coco", "geojson"):
        flags = ["-o", str(tmp_path / form), "--format", form]
        assert main(["predict", "--task", "segment", str(file), *flags]) == 0
    assert json.loads((tmp_path / "coco").read_text())["images"][0]["width"] == 90
    assert json.loads((tmp_path / "geojson").read_text())["type"] == "FeatureCollection"


def test_several_images_are_segmented_without_masks(picture, tmp_path, capsys):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        picture(40, 40).save(file)
    assert main(["predict", "--task", "segment", *map(str, files)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "%" not in line] == list(
        map(str, files)
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["a.png", "b.png", "-o", "m.png"], "--output is for one model that segments or det"),
        (["a.png", "--top-k", "3"], "--top-k is for --task classify"),
        (["a.png", "--fit", "crop"], "fit: Input should be 'contain'"),
        (["a.png", "--window", "256"], "window is for mode=slide"),
        (["a.png", "--mode", "slide", "--window", "100"], "window must be a multiple of 16"),
        (["a.png", "--resolution", "9999"], "resolution must be"),
        (["a.png", "--model", "demo"], "no model can segment: demo classifies; choose"),
    ],
)
def test_segment_with_a_wrong_parameter(flags, message, capsys):
    assert main(["predict", "--task", "segment", *flags]) == 1
    assert message in one_line(capsys.readouterr().err)


def test_a_mask_of_a_classification_is_refused(capsys):
    assert main(["predict", "a.png", "-o", "m.png"]) == 1
    assert "--output is for one model that segments" in one_line(capsys.readouterr().err)


def test_a_mask_that_cannot_be_written(picture, tmp_path, capsys):
    picture(40, 40).save(tmp_path / "a.png")
    missing = tmp_path / "nowhere" / "m.png"
    assert main(["predict", "--task", "segment", str(tmp_path / "a.png"), "-o", str(missing)]) == 1
    assert str(missing) in one_line(capsys.readouterr().err)


def test_unknown_model(capsys):
    assert main(["predict", "a.png", "--model", "resnet"]) == 1
    message = one_line(capsys.readouterr().err)
    assert "resnet" in message
    assert "vim-tiny" in message


def test_models(monkeypatch, capsys):
    monkeypatch.setattr(
        "vimserve.server.commands.list_models.names", lambda: ("vim-tiny", "vim-base")
    )
    assert main(["models"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "family", "parameters", "resolution", "weights"]
    table = {row.split()[0]: row for row in rows}
    assert set(table) == {"vim-tiny", "vim-base"}
    assert "7,148,008" in table["vim-tiny"]
    assert "huggingface.co/hustvl/Vim-tiny-midclstok" in table["vim-tiny"]


def test_models_that_are_there(spec, monkeypatch, tmp_path, capsys):
    present, missing = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    present.write_bytes(b"x")
    sources = {"a": present, "b": missing, "c": HubFile("owner/repo", "c.pth")}
    monkeypatch.setattr("vimserve.server.commands.list_models.names", lambda: tuple(sources))
    monkeypatch.setattr(
        "vimserve.server.commands.list_models.resolve",
        lambda name: replace(spec, name=name, source=sources[name]),
    )
    monkeypatch.setattr(type(spec), "parameters", 1234)
    monkeypatch.setattr(type(spec), "available", property(lambda spec: spec.source == present))
    assert main(["models"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert rows[0].endswith("  1,234       64          present")
    assert rows[1].endswith(f"missing: {missing}")
    assert rows[2].endswith("from huggingface.co/owner/repo")


@pytest.fixture
def checkpoint(tmp_path):
    """``NAME=FILE`` of a small checkpoint with random weights."""
    config = VimConfig(width=64, depth=1, num_classes=7, grid=(4, 4))
    torch.save({"model": Vim(config).state_dict()}, tmp_path / "small.pth")
    return f"small={tmp_path / 'small.pth'}"


def test_serve_with_a_port_in_use(checkpoint, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--model", checkpoint]) == 1
    message = one_line(capsys.readouterr().err)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in message


def test_serve_with_a_bad_checkpoint(tmp_path, capsys):
    file = tmp_path / "mine.pth"
    file.write_bytes(b"not a checkpoint")
    assert main(["serve", "--port", "0", "--model", f"mine={file}"]) == 1
    assert "mine.pth" in one_line(capsys.readouterr().err)


def read_until(log, text):
    """The line of the log with ``text``."""
    for line in log:
        if text in line:
            return line
    raise AssertionError(f"the server ended without a word of {text!r}")


def test_serve_until_sigterm(checkpoint, picture, encode):
    """The very command, in a process that has imported nothing before."""
    flags = ["--port", "0", "--model", checkpoint, "--threads", "1", "--max-resolution", "64"]
    command = [sys.executable, "-m", "vimserve.server", "serve", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        (url,) = re.findall(r"http://[\d.:]+", read_until(process.stderr, "listening"))
        read_until(process.stderr, "ready")
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
            assert client.get("/readyz").json()["status"] == "ready"
            assert client.post("/v1/classify", content=encode(picture(64, 64))).is_success
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert log.splitlines()[0].endswith("ms small")
    assert "Traceback" not in log


def test_sigterm_while_a_model_loads(checkpoint):
    with Command("serve", "--port", "0", "--model", checkpoint) as process:
        read_until(process.log, "listening")
        process.send_signal(signal.SIGTERM)
        status, log = process.ended()
    assert status == 0
    assert "Traceback" not in log


def test_threads_learn_when_to_sleep_before_torch_is_loaded():
    code = "import vimserve, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    for environment, spins in [
        ({}, "3000"),
        ({"GOMP_SPINCOUNT": ""}, "3000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
    ]:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT,
            env={"PATH": os.environ["PATH"]} | environment,
        )  # fmt: skip
        assert done.stdout.split() == [spins, "False"]
