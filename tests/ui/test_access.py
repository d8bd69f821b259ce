"""What axe-core and the keyboard say of the page, in every tab and state."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.support.web.pages import UNTIDY, open_section, restored

pytestmark = pytest.mark.browser

SWEEP = "20261125-015906-370c"
PINS = "&pin=%3Fmodel%3Dmeta-llama/Llama-3.1-8B&pin=%3Fmodel%3DQwen/Qwen3-8B%26r%3D64"
DRAWN = "#tradeoff .rv-plot[data-drawn]"
SECTIONS = {
    "Fit and memory": "#memory .rv-plot[data-drawn]",
    "Studies": "#section-studies .rv-plot[data-drawn]",
    "Measure here": "#probe-button",
    "Export and serving": "#serving table",
    "Compare": "#compare table",
}
ADDRESSES = {
    "/?present=1": ".rv-presenting " + DRAWN,
    "/?tab=train": "#train-status .rv-empty, #train-status .rv-caption",
    "/?model=foo/bar": "#slot-notice [role=alert]",
    f"/?tab=train&sweep={SWEEP}": "#train-summary .rv-figure",
    f"/?tab=runs&run={SWEEP}-001-r1": "#run-detail .rv-detail",
    "/?tab=adapter&adapter=sample": "#adapter-energy-kept .rv-plot[data-drawn]",
    "/?tab=guide": "#rules table",
}
FOCUS = "document.activeElement"
STILL = "*, *::before, *::after {transition: none !important}"
"""No button fades from disabled to enabled, however late its answer comes: a colour halfway is no finding."""


def serious(page):
    """{(rule, selector): the element} of axe's serious and critical findings, with all details open."""
    page.add_style_tag(content=STILL)
    page.evaluate("document.querySelectorAll('.rv-details').forEach(details => details.open = true)")
    findings = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return {
        (finding["id"], " ".join(node["target"])): node["html"][:120]
        for finding in findings
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    }


def test_axe_finds_nothing_serious_in_the_sections_of_explore_and_nothing_lies_on_anything(context):
    """Wide and dark."""
    page, found = context.new_page(), {}
    page.goto(f"/?__theme=dark{PINS}")
    page.locator(DRAWN).wait_for()
    restored(page)
    found["Explore"] = serious(page)
    for section, landmark in SECTIONS.items():
        open_section(page, section)
        page.locator(landmark).first.wait_for()
        found[section] = serious(page) or page.evaluate(UNTIDY)
    heights = page.evaluate("[...document.querySelectorAll('#compare .rv-plot')].map(each => each._fullLayout._size.h)")
    page.close()

    assert {} == {state: findings for state, findings in found.items() if findings}
    assert 2 == len(heights) and 1 == len(set(heights)), "pinned models have a panel each, equally high"


def test_axe_finds_nothing_serious_on_other_tabs_and_states(context):
    """On a light phone."""
    page, found = context.new_page(), {}
    page.set_viewport_size({"width": 390, "height": 900})
    for address, landmark in ADDRESSES.items():
        page.goto(f"{address}&__theme=light")
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
