"""Boxes of runs and sweeps: as many can be ticked as one chart can show."""

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_a_tick_that_would_be_one_too_many_is_refused_with_a_sentence(page):
    page.goto("/?tab=runs")
    row = page.locator("#runs-table tr[data-pick]", has_text="r = 1, 4, 16, 64").first
    row.wait_for()
    page.evaluate("() => RankViz.selection({ value: ['r1'] }, () => {}, 12, 'runs-too-many')")

    row.locator("input").click()

    page.locator("#runs-too-many", has_text="At most 12 runs can be selected at once (these would be 13).").wait_for()
    assert not row.locator("input").is_checked()
    row.get_by_role("button").click()
    page.locator("#runs-table tr[data-pick$='-001-r1'] input").check()
    page.locator("#runs-too-many", has_text="At most").wait_for(state="detached")
