"""The badge: which run trains, how far it is, and what waits."""

from rankviz.ui.train import tab
from tests.support.runs.finished_runs import text_of
from tests.ui.train.test_progress import queued, running


def test_the_badge_says_which_run_trains_and_how_far_and_leads_to_it(api):
    assert "" == tab.now(api).line
    sweep_id, _ = running(api)
    queued(api)

    line = tab.now(api).line

    assert "Training r = 4, 16: run 1 of 2, 1 more sweep" == text_of(line), "the time left is not known yet"
    assert f'data-pick="{sweep_id}"' in line
