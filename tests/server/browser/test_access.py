"""The playground for everybody: keys, prefixes, links, phones, keyboards and screen readers."""

import io

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.npm import INSTALLED, install
from tests.server.browser.acting import ask, box_of, choose, plain

KEY = "correct-horse-battery"
PASTE = """([kind, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
    const names = { paste: "clipboardData", drop: "dataTransfer" };
    const event = new Event(kind, { bubbles: true, cancelable: true });
    Object.defineProperty(event, names[kind], { value: data });
    document.body.dispatchEvent(event);
}"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_a_key_below_a_prefix(open_page, serve):
    client, _ = serve(api_key=KEY, root_path="/vision")
    watched = open_page(f"{str(client.base_url).rstrip('/')}/vision")
    page = watched.page
    assert page.url.endswith("/vision/")
    expect(page.get_by_label("This server asks for an API key")).to_be_focused()
    choose_any = page.locator("#samples button").first
    choose_any.click()  # the examples are part of the page
    expect(page.locator("#run")).to_be_disabled()
    watched.expected += [401, 401]
    page.fill("#key", "wrong-key-0123456789")
    page.click("text=Use it")
    expect(page.get_by_role("alert")).to_contain_text("does not accept the API key")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#key-form")).to_be_hidden()
    ask(page)
    assert "YOUR-KEY" in page.locator("#snippet").inner_text()
    assert KEY not in page.content()
    kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
    assert KEY not in page.evaluate(kept)


def test_settings_are_in_the_address(open_page, origin):
    page = open_page("#model=demo-seg&resolution=300&mode=slide&window=128&sample=dog.jpg").page
    expect(page.locator("#estimate")).to_contain_text("windows")
    assert page.locator("input[value=segment]").is_checked()
    values = {"model": "demo-seg", "resolution": "300", "mode": "slide", "window": "128"}
    for name, value in values.items():
        expect(page.locator(f"#{name}")).to_have_value(value)
    page.select_option("#mode", "")
    page.select_option("#resolution", "224")
    page.locator("#opacity").evaluate("(slider) => (slider.value = 20)")
    page.locator("#opacity").dispatch_event("input")
    assert (
        page.url == f"{origin}/#model=demo-seg&resolution=224&window=128&opacity=20&sample=dog.jpg"
    )
    page.get_by_text("What is it?").click()
    assert "model=demo&" in page.url
    page.evaluate("location.hash = 'model=deit&sample=pizza.png'")  # as by a link
    expect(page.locator("#model")).to_have_value("deit")
    expect(page.locator("#status")).to_have_text("pizza.png is here, 224 by 224 pixels")


def test_the_size_of_the_users_choice(open_page):
    page = open_page("#model=demo-seg").page
    page.set_input_files("#file", plain())
    page.select_option("#resolution", "other")
    page.get_by_label("Side in pixels").fill("160")
    page.keyboard.press("Tab")
    expect(page.locator("#estimate")).to_contain_text("160 × 160")
    ask(page)
    expect(page.locator("#saw")).to_have_text("demo-seg saw 160 × 160 pixels as 100 tokens.")


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_pictures_that_are_given(open_page, kind):
    page = open_page().page
    expect(page.locator("#empty")).to_be_visible()
    page.evaluate(PASTE, [kind, [*plain()["buffer"]]])
    expect(page.locator("#view")).to_be_visible()
    expect(page.locator("#status")).to_have_text("given.png is here, 64 by 64 pixels")


def test_the_camera(open_page):
    page = open_page().page
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator("#shutter")).to_be_hidden()
    expect(page.locator("#view")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("camera.jpg is here")
    assert page.evaluate("document.getElementById('video').srcObject") is None


def test_a_file_that_the_browser_cannot_show(open_page):
    """A TIFF: the server reads it, and its mask is shown without a picture below."""
    page = open_page("#model=demo-seg").page
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 120, 40)).save(buffer, "TIFF")
    file = {"name": "field.tif", "mimeType": "image/tiff", "buffer": buffer.getvalue()}
    page.set_input_files("#file", file)
    expect(page.get_by_text("Your browser cannot show this file")).to_be_visible()
    ask(page)
    expect(page.locator("#answer")).to_have_text("Background")
    expect(page.locator("#unseen")).to_be_hidden()


def test_a_phone(open_page):
    page = open_page("#model=demo-seg&resolution=224", **PHONE).page
    choose(page, "dog")
    ask(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    small = """(elements) => elements.map((one) => [one.id || one.textContent, one.offsetHeight])
        .filter(([_, height]) => height < 24)"""  # WCAG 2.2, 2.5.8
    targets = page.locator("button:visible, select:visible, input[type=range]:visible")
    assert targets.count() > 20
    assert targets.evaluate_all(small) == []

    zoom = page.locator("#zoom")
    fitted = zoom.inner_text()
    page.locator("#canvas").scroll_into_view_if_needed()
    box = box_of(page.locator("#canvas"))
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind, *apart):
        points = [{"x": x + way * one, "y": y, "id": way + 1} for one in apart for way in (-1, 1)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for apart in (40, 50, 60):
        touch("touchMove", apart)
    touch("touchEnd")
    twice = 2 * int(fitted.removesuffix("%"))
    expect(zoom).not_to_have_text(fitted)
    assert int(zoom.inner_text().removesuffix("%")) == pytest.approx(twice, abs=2)


def test_accessibility(open_page):
    """Nothing for axe to find, with and without results, light and dark, wide and narrow."""
    install()
    axe = (INSTALLED / "node_modules" / "axe-core" / "axe.min.js").read_text()
    page = open_page("#model=demo-seg&resolution=224").page
    expect(page.locator("#samples button").first).to_be_visible()
    expect(page.locator("#model")).to_have_value("demo-seg")
    page.evaluate(axe)

    def found():
        results = page.evaluate("axe.run()")
        assert len(results["passes"]) > 15
        # axe cannot see what is behind a text on a canvas or in a chart.
        unsure = [one for one in results["incomplete"] if one["id"] != "color-contrast"]
        return [
            (one["id"], node["html"][:120], node.get("failureSummary", ""))
            for one in (*results["violations"], *unsure)
            for node in one["nodes"]
        ]

    assert found() == []
    choose(page, "dog")
    ask(page)
    page.get_by_text("Swipe").click()
    for scheme, width, height in (("light", 1280, 800), ("dark", 1280, 800), ("dark", 390, 844)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        assert found() == [], (scheme, width)
