"""The playground in a real browser: objects that were found, their boxes and masks."""

import io
import json
import subprocess

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from pycocotools import mask as coco_mask

from tests.npm import INSTALLED, install
from tests.patience import PATIENCE_S
from tests.server.browser.acting import COLOUR, ask, box_of, download, hover, pixel, slide
from tests.server.detector import SPEC

HEIGHT, WIDTH = 100, 200
assert SPEC.palette is not None
PALETTE = SPEC.palette
APPLE, BOAT, CAT = range(3)
# Where the middles of things are, and of the left edge of the cat's box.
IN_CAT, IN_APPLE, IN_NOTHING, CATS_EDGE = (100, 75), (60, 25), (180, 20), (50, 75)
QUERY = "model=finder&score_threshold=0.05"
AXE = """axe.run().then((results) => results.violations.concat(
    results.incomplete.filter((one) => one.id !== "color-contrast")).map((one) => one.id))"""


def photo():
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), COLOUR).save(buffer, "PNG")
    return {"name": "photo.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def asked(open_page, address):
    watched = open_page(address)
    watched.page.set_input_files("#file", photo())
    expect(watched.page.locator("#view")).to_be_visible()
    ask(watched.page)
    return watched


def share(page, x, y):
    """A place of the picture as a share of the canvas, while the whole picture is shown."""
    box = box_of(page.locator("#canvas"))
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    return (
        0.5 + (x - WIDTH / 2) * scale / box["width"],
        0.5 + (y - HEIGHT / 2) * scale / box["height"],
    )


def colour(page, place):
    return pixel(page, *share(page, *place))


def row(page, name):
    return page.locator("#classes").get_by_role("button", name=name)


def test_boxes_are_hidden_by_their_scores_without_asking_again(open_page):
    watched = asked(open_page, "#model=finder")
    page = watched.page
    expect(page.locator("#answer")).to_have_text("Cat, apple")
    expect(page.locator(".objects li")).to_have_count(2)
    assert colour(page, CATS_EDGE) == PALETTE[CAT]
    assert colour(page, IN_CAT) == colour(page, IN_NOTHING) == COLOUR
    expect(page.locator("#opacity")).to_be_hidden()

    before = len(watched.asked)
    slide(page, "confidence", 20)
    expect(page.locator(".objects li")).to_have_count(3)
    expect(page.locator("#classes")).to_contain_text("3 objects")
    slide(page, "confidence", 70)
    expect(page.locator("#answer")).to_have_text("Cat")
    expect(page.locator("#classes")).to_contain_text("1 object, 2 more below that score")
    slide(page, "confidence", 95)
    expect(page.locator("#answer")).to_have_text("Nothing that scores so much")
    assert colour(page, CATS_EDGE) == COLOUR
    assert not any("/v1/detect" in one or one == "POST /v1/jobs" for one in watched.asked[before:])
    assert "confidence=95" in page.url


def test_what_is_pointed_at_stands_out(open_page):
    page = asked(open_page, "#model=finder").page
    shown = colour(page, CATS_EDGE)
    assert hover(page, *share(page, *IN_APPLE)).startswith("apple 60 %  ")
    faded = colour(page, CATS_EDGE)
    assert faded != shown
    assert hover(page, *share(page, *IN_NOTHING)) == ""
    assert colour(page, CATS_EDGE) == shown

    row(page, "apple").hover()
    assert colour(page, CATS_EDGE) == faded
    row(page, "cat").hover()
    assert colour(page, CATS_EDGE) == shown
    row(page, "apple").click()
    page.locator("#answer").hover()
    assert colour(page, CATS_EDGE) == faded  # it stays
    assert row(page, "apple").get_attribute("aria-pressed") == "true"
    slide(page, "confidence", 70)
    assert colour(page, CATS_EDGE) == shown
    slide(page, "confidence", 50)
    assert row(page, "apple").get_attribute("aria-pressed") == "false"


def test_the_keyboard_alone(open_page):
    page = asked(open_page, "#model=finder").page
    shown = colour(page, CATS_EDGE)
    row(page, "cat").focus()
    assert colour(page, CATS_EDGE) == shown
    page.keyboard.press("Tab")
    expect(row(page, "apple")).to_be_focused()
    faded = colour(page, CATS_EDGE)
    assert faded != shown
    page.keyboard.press("Enter")
    expect(row(page, "apple")).to_be_focused()
    expect(row(page, "apple")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert colour(page, CATS_EDGE) == faded
    page.locator("#confidence").press("ArrowRight")
    expect(page.locator("#confidence-value")).to_have_text("51 %")


def test_masks_and_files(open_page, client):
    page = asked(open_page, "#model=finder&masks=rle&confidence=60&opacity=100").page
    expect(page.locator("#answer")).to_have_text("Cat, apple")  # which scores a little more
    assert colour(page, IN_CAT) == PALETTE[CAT]
    assert colour(page, IN_APPLE) == PALETTE[APPLE]
    assert colour(page, (22, 12)) == COLOUR  # the apple is round
    slide(page, "opacity", 0)
    assert colour(page, IN_CAT) == COLOUR
    slide(page, "opacity", 100)

    def direct(query):
        return client.post(f"/v1/detect?{query}", content=photo()["buffer"])

    name, raw = download(page, "JSON")
    assert name == "photo.json"
    assert json.loads(raw)["results"] == direct(f"{QUERY}&masks=rle").json()["results"]
    for text, form, ending in (
        ("COCO", "coco", "coco.json"),
        ("GeoJSON", "geojson", "geojson"),
        ("Overlay (JPEG)", "overlay", "overlay.jpg"),
    ):
        name, content = download(page, text)
        assert name == f"photo.{ending}"
        assert content == direct(f"model=finder&score_threshold=0.6&format={form}").content
    picture = Image.open(io.BytesIO(download(page, "As shown (PNG)")[1])).convert("RGB")
    assert picture.size == (WIDTH, HEIGHT)
    assert picture.getpixel(IN_CAT) == picture.getpixel(CATS_EDGE) == PALETTE[CAT]
    assert picture.getpixel(IN_NOTHING) == COLOUR


def test_files_of_boxes_have_no_masks(open_page):
    page = asked(open_page, "#model=finder&confidence=20").page
    (cat, apple, boat) = json.loads(download(page, "COCO")[1])["annotations"]
    assert "segmentation" not in cat
    assert apple["bbox"] == [20, 10, 60, 30]
    assert boat["category_id"] == BOAT


def test_a_comparison_of_two_detectors(open_page):
    page = asked(open_page, "#model=finder&against=boxer&masks=rle").page
    expect(page.locator("#masks-field")).to_be_hidden()  # not both have masks
    expect(page.locator("#answer")).to_have_text("finder: 2 objects · boxer: 2 objects")
    assert page.locator(".tag.left, .tag.right").all_inner_texts() == ["finder", "boxer"]
    expect(page.locator("#classes h3")).to_have_text(["finder", "boxer"])
    expect(page.locator(".objects li")).to_have_count(4)
    shown = colour(page, CATS_EDGE)
    row(page, "apple").nth(1).hover()  # of the right side
    assert colour(page, CATS_EDGE) == shown
    row(page, "apple").nth(0).hover()
    assert colour(page, CATS_EDGE) != shown
    page.get_by_role("slider", name="Divider").press("Home")
    assert hover(page, *share(page, *IN_CAT)).startswith("cat 90 %  ")
    expect(page.locator("#exports h3")).to_have_text(["finder", "boxer"])


def test_the_program_that_is_shown_does_the_same(open_page, client, tmp_path):
    page = open_page("#model=finder&masks=rle").page
    page.set_input_files("#file", photo())
    (tmp_path / "photo.png").write_bytes(photo()["buffer"])
    expect(page.locator("#snippet")).to_contain_text("photo.png")
    curl = page.locator("#snippet").inner_text().replace("curl ", "curl --silent ", 1)
    assert "/v1/detect?" in curl
    done = subprocess.run(
        ["bash", "-c", curl],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    wanted = client.post(f"/v1/detect?{QUERY}&masks=rle", content=photo()["buffer"]).json()
    assert json.loads(done.stdout)["results"] == wanted["results"]


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_run_lengths_are_read_as_pycocotools_writes_them(open_page):
    page = open_page().page
    noise = np.random.default_rng(0)
    masks = [noise.random((300, 200)) < part for part in (0.0, 0.001, 0.5, 0.999, 1.0)]
    masks += [np.zeros((3, 4), bool), np.pad(np.ones((1000, 1), bool), ((0, 0), (1, 900)))]
    for mask in masks:
        encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        given = {"size": list(mask.shape), "counts": encoded["counts"].decode()}
        filled = page.evaluate(
            """async (mask) => {
                const { fillRuns } = await import("/playground/rle.js");
                const filled = [];
                fillRuns(mask, (...run) => filled.push(run));
                return filled;
            }""",
            given,
        )
        drawn = np.zeros_like(mask)
        for x, y, rows in filled:
            assert rows > 0
            assert not drawn[y : y + rows, x].any()
            drawn[y : y + rows, x] = True
        assert (drawn == mask).all()


def test_accessibility(open_page):
    """Nothing for axe to find, boxes alone or with masks, light and dark, wide and narrow."""
    install()
    page = asked(open_page, "#model=finder&masks=rle&view=swipe&confidence=20").page
    page.evaluate((INSTALLED / "node_modules" / "axe-core" / "axe.min.js").read_text())
    row(page, "boat").click()
    for scheme, width, height in (("light", 1280, 800), ("dark", 1280, 800), ("dark", 390, 844)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate(AXE) == [], (scheme, width)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
