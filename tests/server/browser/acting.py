"""What a person does on the page, and what the page then shows."""

import io
from functools import cache

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.paths import ROOT

SAMPLES = ROOT / "model" / "demo" / "samples"
SCENES = ROOT / "model" / "demo" / "segmentation" / "samples"
SMALL = "model=demo-seg&resolution=224"
COLOUR = (200, 120, 40)
QUEUED = 'vimserve_queue_depth{model="demo"} 1.0'


def plain(side=64):
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), COLOUR).save(buffer, "PNG")
    return {"name": "it's plain.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


@cache
def scene():
    """A picture of several things, small enough to be quick."""
    buffer = io.BytesIO()
    Image.open(SCENES / "scene-1.jpg").resize((416, 416)).save(buffer, "PNG")
    return {"name": "scene.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def ask(page: Page) -> None:
    """Press the button, and wait for the answer."""
    page.click("#run")
    expect(page.locator("#results")).to_be_visible()


def choose(page: Page, sample: str) -> None:
    page.get_by_role("button", name=f"Example: {sample}", exact=True).click()
    expect(page.locator("#view")).to_be_visible()
    expect(page.locator("#run")).to_be_enabled()


def box_of(element: Locator) -> FloatRect:
    box = element.bounding_box()
    assert box is not None
    return box


def pixel(page: Page, x: float, y: float) -> tuple[int, ...]:
    """The colour of the canvas at a share of its width and height, once it is drawn."""
    return tuple(
        page.evaluate(
            """async ([x, y]) => {
                const frame = () => new Promise(requestAnimationFrame);
                await frame();
                await frame();
                const canvas = document.getElementById("canvas");
                const at = [Math.floor(canvas.width * x), Math.floor(canvas.height * y)];
                return [...canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3);
            }""",
            [x, y],
        )
    )


def slide(page: Page, name: str, value: float) -> None:
    page.locator(f"#{name}").fill(str(value))


def hover(page: Page, x: float, y: float) -> str:
    """What is told of the place at a share of the canvas' width and height."""
    box = box_of(page.locator("#canvas"))
    # Wheels know only whole pixels.
    page.mouse.move(int(box["x"] + box["width"] * x), int(box["y"] + box["height"] * y))
    return page.locator("#pointed").inner_text()


def download(page: Page, name: str) -> tuple[str, bytes]:
    with page.expect_download() as started:
        page.locator("#exports").get_by_role("button", name=name, exact=True).click()
    file = started.value
    return file.suggested_filename, file.path().read_bytes()
