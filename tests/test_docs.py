"""What the documents tell to run works as it stands, and they read as they are meant to."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from glob import glob
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import rasterio
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image, ImageDraw

from tests.npm import run_module
from tests.paths import ROOT
from tests.patience import PATIENCE_S
from tests.server.browser.chromium import BrowserThread, chromium
from vimserve.loadtests.common.server import serving
from vimserve.server.config import ServerConfig

MARKDOWN = MarkdownIt().enable("table")
# Glob leaves out folders that begin with a dot, and vimserve/ only links to the others.
PAGES = sorted(
    page
    for page in glob("**/*.md", root_dir=ROOT, recursive=True)
    if not page.startswith("vimserve/") and "site-packages" not in page
)
GUIDES = ["README.md", "CONTRIBUTING.md", *(page for page in PAGES if page.startswith("docs/"))]
CLIENTS = "docs/clients.md"
BLOCKS = [
    (guide, token.info, token.content)
    for guide in GUIDES
    for token in MARKDOWN.parse((ROOT / guide).read_text())
    if token.type == "fence"
]
SHELL = [code for _, language, code in BLOCKS if language == "sh" and "make serve" not in code]
COMMANDS = [code for code in SHELL if "vimserve serve" not in code]
SERVERS = [code for code in SHELL if "vimserve serve" in code]
PROGRAMS = [code for page, language, code in BLOCKS if language == "python" and page != CLIENTS]
SNIPPETS = {
    language: [code for page, known, code in BLOCKS if (page, known) == (CLIENTS, language)]
    for language in ("python", "js", "html")
}
BAR = re.compile(r"(?<!\\)\|")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Host and port of what `make serve` starts, for pages from the disk too; one for all."""
    with serving(["--cors-origin", "*"]) as server:
        yield server.url.removeprefix("http://")
        assert server.stop() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where documents' commands and programs run: with samples, a photo of a dog and a scene."""
    (tmp_path / "model").symlink_to(ROOT / "model")
    (tmp_path / "photo.jpg").symlink_to(ROOT / "model" / "demo" / "samples" / "dog.jpg")
    write_scene(tmp_path / "scene.tif")
    return tmp_path


def write_scene(path: Path) -> None:
    """A small scene of four bands of 16 bits that lies in Austria."""
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
    samples = np.random.default_rng(0).integers(0, 3000, (4, 96, 128), np.uint16)
    with rasterio.open(
        path, "w", driver="GTiff", height=96, width=128, count=4, dtype="uint16",
        crs="EPSG:32633", transform=transform,
    ) as file:  # fmt: skip
        file.write(samples)


def write_pictures(folder: Path) -> None:
    """Six pictures of each of three classes."""
    rng = np.random.default_rng(0)
    for label in ("disc", "frame", "square"):
        (folder / label).mkdir(parents=True)
        for number in range(6):
            picture = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((96, 64))
            canvas, box = ImageDraw.Draw(picture), (24, 8, 72, 56)
            if label == "disc":
                canvas.ellipse(box, "white")
            else:
                canvas.rectangle(box, "white" if label == "square" else None, "white", 6)
            picture.save(folder / label / f"{number}.jpg")


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) >= 8
    assert SERVERS
    assert PROGRAMS
    for client in ("requests", "huggingface_hub", "tritonclient.http"):
        assert any(f"import {client}" in code or f"from {client}" in code
                   for code in SNIPPETS["python"])  # fmt: skip
    assert SNIPPETS["html"]
    for client in ("fetch(", "@huggingface/inference"):
        assert any(client in code for code in SNIPPETS["js"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documents call curl")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split("\n")[0][:60])
def test_commands(command: str, address: str, folder: Path) -> None:
    before = {*folder.iterdir()}
    script = f"""
        set -euo pipefail
        curl() {{ command curl --fail --silent --show-error "$@"; }}
        vimserve() {{ {shlex.quote(sys.executable)} -m vimserve.server "$@"; }}
    """ + at(address, command)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout or any(file.stat().st_size for file in {*folder.iterdir()} - before)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documents call curl")
@pytest.mark.parametrize("commands", SERVERS, ids=lambda commands: commands.split("\n")[0][:60])
def test_commands_with_a_server_of_their_own(commands: str, folder: Path) -> None:
    write_pictures(folder / "pictures")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    script = f"""
        set -euo pipefail
        set -m  # so that the server can be ended with the shell function that it runs in
        trap 'kill -- -$(jobs -p)' EXIT
        curl() {{ command curl --fail --silent --show-error "$@"; }}
        vimserve() {{ {shlex.quote(sys.executable)} -m vimserve.server "$@"; }}
    """ + at(f"127.0.0.1:{port}", commands)
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "VIMSERVE_PORT": str(port), "XDG_CACHE_HOME": str(folder / "cache")},
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = re.search(r'\{"model": ?"mine".*', done.stdout)  # behind what other commands print
    assert answer, done.stdout
    (result,) = json.loads(answer[0])["results"]
    assert {one["label"] for one in result["predictions"]} == {"disc", "frame", "square"}


@pytest.mark.parametrize("snippet", SNIPPETS["python"])
def test_python_clients(snippet: str, address: str, folder: Path) -> None:
    file = folder / "client.py"
    file.write_text(at(address, snippet))
    done = subprocess.run(
        [sys.executable, "-W", "error", file],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "dog" in done.stdout


@pytest.mark.parametrize("snippet", SNIPPETS["js"])
def test_javascript_clients(snippet: str, address: str, folder: Path) -> None:
    assert "dog" in run_module(at(address, snippet), folder)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(program: str) -> None:
    scope: dict[str, object] = {}
    exec(compile(program, "a document", "exec"), scope)  # noqa: S102
    assert scope["logits"].shape == (2, 1000)  # type: ignore[attr-defined]


@pytest.mark.parametrize("snippet", SNIPPETS["html"])
def test_pages(snippet: str, address: str, folder: Path) -> None:
    (folder / "client.html").write_text(at(address, snippet))

    def use() -> str | None:
        with chromium() as browser:
            page = browser.new_page()
            page.goto((folder / "client.html").as_uri())
            page.set_input_files("input", folder / "photo.jpg")
            page.wait_for_function("document.querySelector('pre').textContent")
            return page.text_content("pre")

    with closing(BrowserThread()) as thread:
        assert "dog" in (thread(use) or "")


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_named_to_be_run_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for module in re.findall(r"python -m ((?:vimserve|tests)[\w.]*\w)", text):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_whole(page: str) -> None:
    assert broken_rows((ROOT / page).read_text()) == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("| a | b |\n| - | - |\n| `c \\| d` | e |\n", []),
        ("```\n| a |\n```\n", []),
        ("| a | b |\n| - | - |\n\n| c | d |\n", ["4: | c | d |"]),
        ("| a | b |\n| - | - |\n| c |\n| d | e | f |\n", ["3: | c |", "4: | d | e | f |"]),
        ("| a |\n| - |\n| b |\nThis goes on.\n", ["4: This goes on."]),
        ("| a | b |\n| - |\n", ["1: | a | b |", "2: | - |"]),
    ],
)
def test_broken_tables_are_found(text: str, broken: list[str]) -> None:
    assert broken_rows(text) == broken


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_repository_lead_somewhere(page: str) -> None:
    for target in links(MARKDOWN.parse((ROOT / page).read_text())):
        url = urlsplit(target)
        if url.scheme:
            continue
        file = (ROOT / page).parent / unquote(url.path) if url.path else ROOT / page
        assert file.exists(), target
        assert not url.fragment or url.fragment in anchors(file.read_text()), target


def test_the_table_of_settings_has_every_flag() -> None:
    text = (ROOT / "docs" / "load.md").read_text()
    flags = re.findall(r"^\| `--([a-z-]+)` \|", text, re.MULTILINE)
    settings = [setting.replace("_", "-") for setting in ServerConfig.model_fields]
    assert sorted(flags) == sorted({*settings} - {"api-key"})


def at(address: str, code: str) -> str:
    """The code, with this server in place of the one at the default address."""
    return code.replace("127.0.0.1:8000", address).replace("localhost:8000", address)


def broken_rows(text: str) -> list[str]:
    """Lines like rows of a table that are in none, and rows with more or fewer cells than the head.

    A line begins with its number.
    """
    lines = text.splitlines()
    blocks: dict[str, list[range]] = {"table_open": [], "fence": [], "code_block": []}
    for token in MARKDOWN.parse(text):
        if token.map and token.type in blocks:
            blocks[token.type].append(range(*token.map))
    inside = {i for ranges in blocks.values() for block in ranges for i in block}
    broken = [i for i, line in enumerate(lines) if line.startswith("|") and i not in inside]
    for table in blocks["table_open"]:
        bars = len(BAR.findall(lines[table[0]]))
        broken += [i for i in table if len(BAR.findall(lines[i])) != bars]
    return [f"{i + 1}: {lines[i]}" for i in broken]


def links(tokens: list[Token]) -> Iterator[str]:
    """Where the links and pictures of a page lead."""
    for token in tokens:
        yield from (str(token.attrs[key]) for key in ("href", "src") if key in token.attrs)
        yield from links(token.children or [])


def anchors(text: str) -> set[str]:
    """What a link to a heading may end in."""
    tokens = MARKDOWN.parse(text)
    headings = [tokens[i + 1].content for i, one in enumerate(tokens) if one.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
