"""What stays on one line on a phone."""

import pytest

pytestmark = pytest.mark.browser

LINES = """([css, text]) => {
  const walk = document.createTreeWalker(document.querySelector(css), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node; (node = walk.nextNode()); ) {
    const start = node.data.indexOf(text);
    if (start < 0) continue;
    range.setStart(node, start);
    range.setEnd(node, start + text.length);
    return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
  }
}"""
"""On how many lines a text of an element stands."""


@pytest.fixture
def phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    return page


def test_a_name_of_a_model_is_broken_only_where_it_is_longer_than_its_line(phone):
    phone.goto("/?tab=runs")
    phone.locator("#runs-table tbody").get_by_text("SmolLM2-135M-Instruct").first.wait_for()

    assert 1 == phone.evaluate(LINES, ["#runs-table tbody", "SmolLM2-135M-Instruct"])


@pytest.mark.slow
def test_the_marks_of_the_guide_stand_beside_their_words(phone):
    phone.goto("/?tab=guide")
    phone.get_by_text("published: an open marker").wait_for()

    apart = phone.locator("p .rv-dot").evaluate_all(
        """dots => dots.map((dot) => {
          const word = document.createRange();
          word.setStart(dot.nextSibling, 0);
          word.setEnd(dot.nextSibling, 5);
          const [a, b] = [dot, word].map((each) => each.getBoundingClientRect());
          return Math.abs(a.top + a.bottom - b.top - b.bottom) / 2;
        })"""
    )

    assert 5 == len(apart)
    assert max(apart) < 8  # pixels, half a line
