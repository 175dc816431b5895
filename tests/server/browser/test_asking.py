"""The playground in a real browser: comparisons, refusals, the queue and Cancel."""

from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import expect

from tests.patience import wait_until
from tests.server.browser.acting import (
    QUEUED,
    SAMPLES,
    SMALL,
    ask,
    choose,
    hover,
    pixel,
    plain,
    scene,
)


def test_a_comparison(open_page, client):
    page = open_page(f"#{SMALL}&opacity=100").page
    page.set_input_files("#file", scene())
    page.get_by_label("Compare").select_option("deit")
    expect(page.locator("#estimate h3")).to_have_text(["demo-seg", "deit"])
    ask(page)
    compared = client.post(
        "/v1/compare?models=demo-seg,deit&resolution=224", content=scene()["buffer"]
    ).json()["compared"]
    assert page.locator(".tag.left, .tag.right").all_inner_texts() == ["demo-seg", "deit"]
    expect(page.locator("#stages h3")).to_have_count(2)
    palette = {
        one["name"]: [tuple(color) for color in one.get("palette", [])]
        for one in client.get("/v1/models").json()["models"]
    }
    classes = [
        {one["label"]: one["index"] for one in each["results"][0]["classes"]} for each in compared
    ]
    for at in ((0.3, 0.5), (0.7, 0.5)):
        told = hover(page, *at).split("  ")[0].split(" · ")
        side = int(at[0] > 0.5)
        mine = told[side if len(told) > 1 else 0]
        assert pixel(page, *at) == palette[compared[side]["model"]][classes[side][mine]]
    # Both sides are zoomed at once.
    page.get_by_role("button", name="1:1").click()
    for at in ((0.3, 0.5), (0.7, 0.5)):
        told = hover(page, *at).split("  ")[0].split(" · ")
        side = int(at[0] > 0.5)
        mine = told[side if len(told) > 1 else 0]
        assert pixel(page, *at) == palette[compared[side]["model"]][classes[side][mine]]


def test_errors_in_words(open_page):
    watched = open_page("#model=demo-seg&mode=slide&window=100")
    page = watched.page
    watched.expected += [422, 415]
    page.set_input_files("#file", plain())
    expect(page.locator("#estimate")).to_contain_text("Window must be a multiple of 16")
    page.get_by_label("Window").fill("")
    expect(page.locator("#estimate dl")).to_be_visible()
    page.set_input_files(
        "#file", {"name": "no.txt", "mimeType": "text/plain", "buffer": b"this is text"}
    )
    expect(page.get_by_text("Your browser cannot show this file")).to_be_visible()
    page.click("#run")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Unsupported image")
    expect(alert).to_contain_text("What is accepted")
    expect(page.locator("#run")).to_be_focused()
    alert.get_by_role("button", name="Close").click()
    expect(page.locator("#problem")).to_be_empty()


def test_the_queue_and_cancel(open_page, client, held):
    dog = (SAMPLES / "dog.jpg").read_bytes()
    watched = open_page()
    page = watched.page
    choose(page, "dog")
    with ThreadPoolExecutor(2) as pool:
        held.close()
        try:
            first = pool.submit(client.post, "/v1/classify", content=dog)
            held.wait_for_batch()
            second = pool.submit(client.post, "/v1/classify?resolution=1248", content=dog)
            wait_until(lambda: QUEUED in client.get("/metrics").text)
            page.click("#run")
            expect(page.locator("#progress-text")).to_have_text("Waiting: 1 picture is ahead…")
            with page.expect_response(lambda answer: answer.request.method == "DELETE") as dropped:
                page.get_by_role("button", name="Cancel").click()
            assert dropped.value.status == 204
            expect(page.locator("#running")).to_be_hidden()
            expect(page.locator("#results")).to_be_hidden()
        finally:
            held.open.set()
        assert first.result().status_code == second.result().status_code == 200
    assert held.batches == 2  # none of them was the page's
