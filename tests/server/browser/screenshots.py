"""Take the pictures of the documents anew: ``python -m tests.server.browser.screenshots``."""

from typing import Any

from PIL import Image
from playwright.sync_api import Page

from tests.paths import ROOT
from tests.server.browser.chromium import chromium
from tests.server.live import live
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

FOLDER = ROOT / "docs" / "images"
COLOURS = 200  # enough for a page, and half the bytes
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "color_scheme": "dark",
}


def ask(page: Page, address: str) -> None:
    """Open the page with these settings, and wait for the answer."""
    page.goto(address)
    page.locator("#estimate dl").wait_for()
    # The first answer teaches the server how long the next ones take.
    for _ in range(2):
        page.click("#run")
        page.locator("#results").wait_for()
        page.locator("#running").wait_for(state="hidden")
    page.locator("#estimate", has_text="about").wait_for()


def save(page: Page, name: str) -> None:
    """Save what is in sight as a small PNG."""
    file = FOLDER / name
    page.screenshot(path=file)
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")


def main() -> None:
    """Take all of them."""
    FOLDER.mkdir(exist_ok=True)
    with live(create_app(ServerConfig())) as client, chromium() as browser:
        page = browser.new_page(**DESKTOP)
        ask(page, f"{client.base_url}#model=demo-seg&sample=scene-2.jpg&view=swipe")
        save(page, "playground.png")
        phone = browser.new_page(**PHONE)
        ask(phone, f"{client.base_url}#model=demo-seg&sample=scene-3.jpg")
        phone.evaluate("scrollTo(0, 0)")
        save(phone, "playground-phone.png")


if __name__ == "__main__":
    main()
