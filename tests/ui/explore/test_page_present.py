"""Present on every screen, from a phone to a projector: everything is in view, and nothing lies on anything else."""

import pytest

from tests.support.quick import chosen_quick

pytestmark = pytest.mark.browser

PRESENT = "/?model=Qwen/Qwen3-8B&r=16&present=1"
DRAWN = ".rv-presenting #tradeoff .rv-plot[data-drawn]"
SCREENS = [(390, 844), (844, 390), (768, 1024), (1280, 720), (1400, 900), (1920, 1080)]
PLOT_HEIGHT = 100
BOXES = """() => {
    const box = (element) => {
        const { left, right, top, bottom } = element.getBoundingClientRect();
        return { left, right, top, bottom };
    };
    const all = (css) => [...document.querySelectorAll(css)].filter((each) => each.checkVisibility()).map(box);
    const range = (element) => {
        const text = document.createRange();
        text.selectNodeContents(element);
        return box(text);
    };
    return {
        tiles: all("#figures .rv-figure"),
        values: [...document.querySelectorAll("#figures .rv-value")].map(range),
        chart: box(document.querySelector("#tradeoff .rv-plot")),
        plot: box(document.querySelector("#tradeoff .cartesianlayer .plot .overplot, #tradeoff .nsewdrag")),
        legend: all("#tradeoff .legend .legendtext"),
        titles: all("#tradeoff .xtitle, #tradeoff .ytitle"),
        labels: all("#tradeoff .scatterlayer text"),
        room: [innerWidth, innerHeight, scrollY, document.documentElement.scrollHeight],
    };
}"""


@pytest.fixture(scope="module")
def presented(context):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(PRESENT)
    page.locator(DRAWN).wait_for()
    yield page
    page.close()


def inside(box, frame, room=1):
    return (
        box["left"] >= frame["left"] - room
        and box["right"] <= frame["right"] + room
        and box["top"] >= frame["top"] - room
        and box["bottom"] <= frame["bottom"] + room
    )


def apart(one, other):
    return (
        one["right"] <= other["left"]
        or other["right"] <= one["left"]
        or one["bottom"] <= other["top"]
        or other["bottom"] <= one["top"]
    )


def faults(boxes):
    """What is cut off, hidden or on something else."""
    width, height, scrolled, whole = boxes["room"]
    window = {"left": 0, "right": width, "top": 0, "bottom": height}
    plot = boxes["plot"]
    labels = sorted(boxes["labels"], key=lambda label: label["left"])
    return [
        text
        for text, is_fault in {
            "scrolled past the first tiles": scrolled > 0,
            "higher than the window": whole > height + 1,
            "fewer than five tiles": len(boxes["tiles"]) < 5,
            "a tile outside the window": not all(inside(tile, window) for tile in boxes["tiles"]),
            "a number outside its tile": not all(map(inside, boxes["values"], boxes["tiles"])),
            "a title cut off": not all(inside(title, boxes["chart"], 4) for title in boxes["titles"]),
            "a legend cut off": not all(inside(text, boxes["chart"], 4) for text in boxes["legend"]),
            "a legend over the plot": any(text["bottom"] > plot["top"] + 2 for text in boxes["legend"]),
            "a low plot": plot["bottom"] - plot["top"] < PLOT_HEIGHT,
            "labels on labels": not all(map(apart, labels, labels[1:])),
        }.items()
        if is_fault
    ]


@pytest.mark.parametrize(("width", "height"), chosen_quick(SCREENS, [(390, 844), (1920, 1080)]))
def test_everything_is_in_view_after_the_window_was_sized_and_on_opening(context, presented, width, height):
    for page in (presented, context.new_page()):
        page.set_viewport_size({"width": width, "height": height})
        if page is not presented:
            page.goto(PRESENT)
            page.locator(DRAWN).wait_for()
        fitted(page)

        assert [] == faults(page.evaluate(BOXES))

        if page is not presented:
            page.close()


def fitted(page):
    """Wait until the chart has stood still for a moment. A page hears of another size with its next frame alone."""
    before = None
    while before != (now := page.evaluate(BOXES)):
        before = now
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.wait_for_timeout(400)


@pytest.mark.slow
def test_after_presenting_the_chart_is_as_it_was(context):
    page = context.new_page()
    page.goto("/?model=Qwen/Qwen3-8B&r=16")
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    layout = "(({height, font, legend}) => [height, font.size, legend.font.size])(" + (
        "document.querySelector('#tradeoff .rv-plot')._fullLayout)"
    )
    before = page.evaluate(layout)

    page.get_by_role("button", name="Present", exact=True).click()
    page.locator(".rv-presenting").wait_for()
    page.keyboard.press("Escape")

    page.wait_for_function(f"before => JSON.stringify({layout}) === JSON.stringify(before)", arg=before)
    page.close()
