"""The newest question wins: an answer to what was there before, which a busy server gives later, changes nothing."""

import pytest

pytestmark = pytest.mark.browser


class Late:
    """The next question that is no timer's, kept from the server until it shall arrive.

    of: the part of the page (an elem_id) that it is about.
    """

    def __init__(self, page, of):
        self.page, self.held = page, []
        self.events = events_of(page, of)
        page.route("**/run/predict*", self._hold)

    def _hold(self, route):
        if self.held or route.request.post_data_json["fn_index"] not in self.events:
            route.continue_()
        else:
            self.held.append(route)

    def wait(self):
        while not self.held:
            self.page.wait_for_timeout(50)

    def arrive(self):
        """With its answer, and the time to draw it."""
        with self.page.expect_response(lambda response: response.request == self.held[0].request) as answered:
            self.held[0].continue_()
        answered.value.finished()
        self.page.wait_for_timeout(500)


def events_of(page, part):
    """The numbers of the events that draw this part, without those of a timer."""
    return page.evaluate(
        """part => {
          const { components, dependencies } = window.gradio_config;
          const id = components.find(each => each.props.elem_id === part)?.id;
          const drawing = dependencies.filter(each => each.outputs.includes(id));
          return drawing.filter(each => each.targets[0]?.[1] !== "tick").map(each => each.id);
        }""",
        part,
    )


def test_what_someone_enters_while_an_answer_comes_stays(page):
    page.goto("/?tab=train")
    page.locator("#expected", has_text="3 runs").wait_for()
    late = Late(page, of="train-ranks")
    page.get_by_label("Sweep: runs at each rank").check()
    late.wait()

    page.locator("#train-ranks").get_by_label("32", exact=True).check()
    late.arrive()

    page.get_by_label("Seeds").wait_for()  # the rest of the answer
    ranks = page.locator("#train-ranks input:checked").evaluate_all("boxes => boxes.map(box => box.name)")
    assert ["4", "32", "64"] == ranks
