"""The numbers of the ranks on the trade-off chart lie under no mark and not on one another."""

import pytest

from tests.support.quick import first_quick
from tests.support.web.pages import choose_rank, restored

pytestmark = pytest.mark.browser

SEEN = """() => {
  const [host, grip] = [".rv-plot", ".rv-grip"].map((css) => document.querySelector("#tradeoff " + css));
  const all = (css) => [...host.querySelectorAll(css)].map((each) => [each, getComputedStyle(each)]);
  const drawn = (pairs, isSeen) => pairs.filter(([, style]) => isSeen(style)).map(([each]) => each);
  const numbers = drawn(all(".textpoint text"), (style) => style.visibility !== "hidden");
  const seen = drawn(all(".scatterlayer path.point"), (style) => style.fillOpacity !== "0" || style.stroke !== "none");
  const boxOf = (each) => each.getBoundingClientRect();
  const over = (a, b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top < a.bottom - 3;
  const middle = boxOf(grip).left + boxOf(grip).width / 2;
  const line = { ...boxOf(grip).toJSON(), left: middle - 1, right: middle + 1 };
  const others = [line, ...[...grip.children, ...seen].map(boxOf)];
  const under = numbers.filter((each, i) => {
    const rest = numbers.filter((other, j) => i !== j).map(boxOf);
    return [...others, ...rest].some((other) => over(boxOf(each), other));
  });
  return [numbers.map((each) => each.textContent), under.map((each) => each.textContent)];
}"""
"""Which numbers are read, and which of them lie under something; the box of a number is higher than its digits."""


@pytest.mark.parametrize("width", first_quick([390, 1400]))
def test_no_number_of_a_rank_lies_under_a_mark(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/?r=24")
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    restored(page)

    for r in (24, 15, 36, 3):
        choose_rank(page, r)
        page.locator(".rv-grip-label", has_text=f"r = {r}").wait_for()
        numbers, under = page.evaluate(SEEN)

        assert [] == under
        assert len(numbers) > 4
