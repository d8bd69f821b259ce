"""What a mark of a figure leaves to be read."""

import pytest

pytestmark = pytest.mark.browser

COVERED = """plots => plots.flatMap((plot) => {
  const boxes = (css) => [...plot.querySelectorAll(css)].map((each) => each.getBoundingClientRect());
  const marks = boxes(".scatterlayer path.point");
  return boxes(".xtick text").filter((text) => marks.some((mark) =>
    mark.left < text.right && text.left < mark.right && mark.top < text.bottom && text.top + 2 < mark.bottom));
}).length"""
"""How many numbers below an axis lie under a mark; the box of a number is higher than its digits."""


@pytest.mark.slow
def test_no_number_of_an_axis_lies_under_a_mark(page):
    """In the second example of Train all losses are near zero."""
    page.goto("/?tab=train")
    page.locator(".rv-plot[data-drawn]:visible").nth(1).wait_for()

    assert 0 == page.locator(".rv-plot[data-drawn]:visible").evaluate_all(COVERED)
