"""The playground's files: complete, small, cached, and closed to everything from elsewhere."""

import gzip
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from tests.server.live import live
from tests.test_house import MOST_LINES
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.routes.playground import PATHS
from vimserve.server.routes.playground.files import SAMPLES, THUMBNAILS, find, names

MOST_BYTES, MOST_COLUMNS = 160_000, 100
TEXTS = [name for name in names() if "/" not in name]
SCRIPTS = [name for name in TEXTS if name.endswith(".js")]
KEY = "correct-horse-battery"


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")
    assert client.head("/").status_code == 200
    assert "GET" not in client.get("/openapi.json").json()["paths"]["/"]


@pytest.mark.parametrize("name", names())
def test_every_file_is_sent_as_what_it_is(client, name):
    answer = client.get(f"/playground/{name}")
    assert answer.status_code == 200
    assert answer.content == find(name).content
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert "frame-ancestors 'none'" in policy
    for rule in policy[1:]:
        assert set(rule.split()[1:]) <= {"'self'", "'none'", "'script'"}


def test_all_of_it_is_small():
    loaded = [name for name in names() if not name.startswith(SAMPLES)]
    assert sum(len(find(name).content) for name in loaded) < MOST_BYTES
    assert sum(len(gzip.compress(find(name).content)) for name in TEXTS) < MOST_BYTES // 4


@pytest.mark.parametrize("name", [name for name in TEXTS if not name.endswith(".json")])
def test_no_file_is_too_long_to_know_one_s_way_in(name):
    lines = find(name).content.decode().splitlines()
    assert len(lines) <= MOST_LINES
    assert [line for line in lines if len(line) > MOST_COLUMNS] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_load_their_neighbours_alone_and_make_no_markup(name):
    text = find(name).content.decode()
    for target in re.findall(r"""\b(?:from|import\()\s*"([^"]+)""", text):
        assert target.removeprefix("./") in SCRIPTS or target == "node:fs/promises"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|new Function", text)
    assert not re.search(r"localStorage|sessionStorage|document\.cookie", text)


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere():
    page = Page(find("index.html").content.decode())
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert tag not in ("style", "base")
        for name in ("src", "href"):
            if target := attributes.get(name):
                assert target == "docs" or f"/{target}" in PATHS
        if tag == "script":
            assert attributes["src"]


def test_an_id_is_there_for_whatever_a_script_asks_for():
    page = Page(find("index.html").content.decode())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len({*ids})
    for name in SCRIPTS:
        for asked in re.findall(r"""\$\("([^"]+)"\)""", find(name).content.decode()):
            assert asked in ids, (name, asked)


def test_what_has_not_changed_is_not_sent_again(client):
    plain = client.get("/playground/app.js", headers={"Accept-Encoding": "identity"})
    packed = client.get("/playground/app.js", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert plain.content == packed.content
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 2
    assert plain.headers["ETag"] != packed.headers["ETag"]
    assert plain.headers["Vary"] == "Accept-Encoding"
    for answer, coding in ((plain, "identity"), (packed, "gzip")):
        for known in (answer.headers["ETag"], f'"other", W/{answer.headers["ETag"]}', "*"):
            headers = {"Accept-Encoding": coding, "If-None-Match": known}
            again = client.get("/playground/app.js", headers=headers)
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["ETag"] == answer.headers["ETag"]
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_samples_and_their_thumbnails(client):
    listed = client.get("/playground/samples.json").json()
    assert {"dog.jpg", "pizza.png", "scene-1.jpg", "objects-1.jpg"} <= {*listed}
    assert not [name for name in listed if "overlay" in name]
    for name in listed:
        whole = Image.open(io.BytesIO(client.get(f"/playground/{SAMPLES}{name}").content))
        small = client.get(f"/playground/{THUMBNAILS}{name}")
        assert small.headers["Content-Type"] == "image/jpeg"
        assert Image.open(io.BytesIO(small.content)).size == (112, 112)
        assert min(whole.size) >= 112


@pytest.mark.parametrize(
    "path",
    ["", "other.js", "../__init__.py", "%2e%2e/__init__.py", "samples/%2e%2e/app.js", "samples/"],
)
def test_other_files_are_not_there(client, path):
    assert client.get(f"/playground/{path}").status_code == 404


def test_only_the_page_needs_no_key(serve):
    client, _ = serve(api_key=KEY)
    for path in PATHS:
        assert client.get(path).status_code == 200
        assert client.head(path).status_code == 200
    assert client.post("/", content=b"a picture").status_code == 401
    assert client.get("/playground/other.js").status_code == 401
    assert client.get("/v1/models").status_code == 401


def test_it_can_be_left_out(serve):
    client, _ = serve(playground=False, api_key=KEY)
    headers = {"Authorization": f"Bearer {KEY}"}
    assert client.get("/").status_code == 401
    assert client.get("/", headers=headers).status_code == 405
    assert client.get("/playground/app.js", headers=headers).status_code == 404


def test_a_prefix_without_its_slash_leads_to_the_page(serve):
    client, _ = serve(root_path="/vision")
    answer = client.get("/vision")
    assert (answer.status_code, answer.headers["Location"]) == (307, "/vision/")
    assert client.get("/vision/").text == find("index.html").content.decode()
    assert client.get("/vision/playground/app.js").status_code == 200


def test_a_prefix_that_begins_the_page_s_paths_is_refused(spec):
    with pytest.raises(ValueError, match="root-path: /playground begins /playground/"):
        create_app(ServerConfig(root_path="/playground"), [spec])


def test_it_is_on_by_default(tiny, spec):
    with live(create_app(ServerConfig(), [spec])) as client:
        assert client.get("/").status_code == 200
