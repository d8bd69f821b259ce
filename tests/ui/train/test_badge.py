"""The badge: which run trains, how far it is, and what waits."""

from rankviz.ui.train import tab
from tests.support.runs.finished_runs import text_of
from tests.ui.train.test_progress import queued, running


def test_the_badge_says_which_run_trains_and_how_far_and_leads_to_it(api):
    assert "" == tab.now(api).line
    sweep_id, _ = running(api)
    queued(api)

    line = tab.now(api).line

    assert "Training r = 4, 16: run 1 of 2, 1 more sweep queued" == text_of(line), "the time left is not known yet"
    assert f'data-pick="{sweep_id}"' in line


def test_the_badge_counts_what_runs_as_running(api):
    running(api), running(api)
    assert "Training r = 4, 16: run 1 of 2, 1 more sweep running" == text_of(tab.now(api).line)
    queued(api)

    assert "Training r = 4, 16: run 1 of 2, 1 more sweep running, 1 queued" == text_of(tab.now(api).line)
