"""What axe-core and the keyboard say of the page, in every tab and state."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.support.web.pages import open_section, restored

pytestmark = pytest.mark.browser

SWEEP = "20261125-015906-370c"
PINS = "&pin=%3Fmodel%3Dmeta-llama/Llama-3.1-8B&pin=%3Fmodel%3DQwen/Qwen3-8B%26r%3D64"
DRAWN = "#tradeoff .rv-plot[data-drawn]"
SECTIONS = {
    "Fit and changes": "#knobs table",
    "Memory": "#memory .rv-plot[data-drawn]",
    "Modules": "#module-map .rv-plot[data-drawn]",
    "Studies": "#section-studies .rv-plot[data-drawn]",
    "Accuracy": "#rests-on table",
    "Probe": "#probe-button",
    "Export": "#section-export .rv-code",
    "Compare": "#compare table",
}
ADDRESSES = {
    "/?present=1": ".rv-presenting " + DRAWN,
    "/?tab=train": "#status .rv-empty, #status .rv-caption",
    "/?model=foo/bar": "#slot-notice [role=alert]",
    f"/?tab=train&sweep={SWEEP}": "#train-words .rv-figure",
    f"/?tab=runs&run={SWEEP}-001-r1": "#run-detail table",
    "/?tab=adapter&adapter=sample": "#adapter-energy-kept .rv-plot[data-drawn]",
    "/?tab=guide": "#rules table",
}
OF_GRADIO: set[tuple[str, str]] = set()
"""(rule, selector) of findings in Gradio's own markup that cannot be mended here."""
FOCUS = "document.activeElement"
STILL = "!document.getAnimations().some((each) => each instanceof CSSTransition)"
"""No button fades from disabled to enabled."""
MOST_SHIFT = 0.1


def serious(page):
    """{(rule, selector): the element} of axe's serious and critical findings, with all details open."""
    page.wait_for_function(STILL)
    page.evaluate("document.querySelectorAll('.rv-details').forEach(details => details.open = true)")
    findings = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return {
        (finding["id"], " ".join(node["target"])): node["html"][:120]
        for finding in findings
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
        if (finding["id"], " ".join(node["target"])) not in OF_GRADIO
    }


@pytest.mark.parametrize(("theme", "width"), [("dark", 1400), ("light", 390)])
def test_axe_finds_nothing_serious(context, theme, width):
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    found = {}
    page.goto(f"/?__theme={theme}{PINS}")
    page.locator(DRAWN).wait_for()
    restored(page)
    found["Explore"] = serious(page)
    for section, landmark in SECTIONS.items():
        open_section(page, section)
        page.locator(landmark).first.wait_for()
        found[section] = serious(page)
    for address, landmark in ADDRESSES.items():
        page.goto(f"{address}&__theme={theme}")
        page.locator(landmark).first.wait_for()
        found[address] = serious(page)
    page.close()

    assert {} == {state: findings for state, findings in found.items() if findings}


def test_the_chart_is_reached_by_keys_and_every_stop_shows_its_ring(page):
    page.goto("/")
    page.locator(DRAWN).wait_for()
    restored(page)
    page.keyboard.press("Tab")
    ring = (
        "(e => getComputedStyle(e).outlineStyle + parseFloat(getComputedStyle(e).outlineWidth))(document.activeElement)"
    )

    assert "Skip to the result" == page.evaluate(f"{FOCUS}.textContent")
    assert "solid2" == page.evaluate(ring)
    page.keyboard.press("Enter")
    assert "slider" == page.evaluate(f"{FOCUS}.getAttribute('role')")
    assert "solid2" == page.evaluate(ring)
    page.keyboard.press("ArrowRight")

    page.wait_for_url("**r=64**")
    page.wait_for_function("document.getElementById('rv-rank-box').value === '64'")


@pytest.mark.slow
def test_each_box_and_each_drop_down_is_one_stop_however_fast_the_key(page):
    stop = f"({FOCUS}.id === 'rv-rank-box' ? 'Rank' : {FOCUS}.getAttribute('aria-label') || {FOCUS}.tagName)"
    for wait in (0, 500):
        page.goto("/")
        page.locator(DRAWN).wait_for()
        restored(page)
        page.locator("#model input").focus()
        page.wait_for_timeout(wait)
        stops = []
        for _ in range(7):
            page.keyboard.press("Tab")
            page.wait_for_timeout(wait)
            stops.append(page.evaluate(stop))

        assert "body" != focused(page)
        assert ["Rank", "Rank, in powers of two", "Use case", "Target modules", "GPU", "Examples", "Epochs"] == stops


def focused(page):
    """What has the focus, once what the last key did has been drawn: what goes then takes it along for a moment."""
    page.wait_for_timeout(400)
    page.wait_for_function(f"{FOCUS} !== document.body")
    return page.evaluate(f"{FOCUS} === document.body ? 'body' : {FOCUS}.textContent.trim() || {FOCUS}.tagName")


@pytest.mark.slow
def test_the_focus_stays_with_what_is_drawn_anew(page):
    page.goto("/?section=fit")
    page.locator("#knobs table").wait_for()
    restored(page)
    page.locator("#knobs").get_by_role("button", name="r = 64").focus()

    page.keyboard.press("Enter")

    page.wait_for_url("**r=64**")
    page.locator("#knobs").get_by_role("button", name="r = 128").wait_for()
    page.wait_for_function(f"!!{FOCUS}.closest('#knobs')")


@pytest.mark.slow
def test_the_focus_stays_where_a_choice_was_made_a_pin_taken_away_and_a_menu_closed(page):
    page.goto(f"/?section=compare{PINS}")
    page.locator("#compare").get_by_role("button", name="Unpin").first.focus()
    restored(page)
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('#compare [data-unpin]').length === 1")
    page.wait_for_function(f"!!{FOCUS}.closest('#compare')")

    page.get_by_label("Use case").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**use_case=**")
    assert "body" != focused(page)
    page.get_by_role("listbox").wait_for(state="hidden")

    page.locator("#tradeoff .rv-menu summary").focus()
    page.keyboard.press("Enter")
    page.locator("#tradeoff").get_by_role("button", name="CSV").focus()
    page.keyboard.press("Escape")
    assert "Download" == focused(page)

    page.get_by_role("button", name="Present").focus()
    page.keyboard.press("Enter")
    page.locator(".rv-presenting").wait_for()
    page.keyboard.press("Escape")
    assert "Present" == focused(page)


def test_explore_shows_figures_chart_and_recommendation_at_once_and_moves_little(context):
    page = context.new_page()
    page.add_init_script(
        "window.shift = 0; new PerformanceObserver(list => list.getEntries().forEach(entry => {"
        "if (!entry.hadRecentInput) window.shift += entry.value; })).observe({type: 'layout-shift', buffered: true})"
    )
    page.goto("/?model=Qwen/Qwen3-8B&r=16")
    page.locator(DRAWN).wait_for()
    page.locator("#ranks tr.rv-chosen").wait_for()
    restored(page)
    bottoms = {
        selector: page.locator(selector).bounding_box()["y"] + page.locator(selector).bounding_box()["height"]
        for selector in ("#figures", "#tradeoff", "#measure")
    }
    height = page.evaluate("document.documentElement.scrollHeight")
    shift = page.evaluate("window.shift")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.querySelector('#tradeoff .rv-plot').clientWidth < 390")
    phone = page.evaluate("document.documentElement.scrollHeight")
    first = page.locator("#figures").bounding_box()["y"]
    page.close()

    assert max(bottoms.values()) <= 900
    assert height <= 1.5 * 900
    assert shift < MOST_SHIFT
    assert phone <= 5 * 844
    assert first < 844 / 2


@pytest.mark.slow
def test_a_phone_unfolds_the_rest_of_the_question(context):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/")
    page.get_by_role("button", name="Use case, targets, GPU, your data").wait_for()
    assert page.get_by_label("Use case").is_hidden()

    page.get_by_role("button", name="Use case, targets, GPU, your data").click()

    page.get_by_label("Use case").wait_for()
    page.close()
