"""A wish to cancel that cannot be fulfilled now is kept, and said wherever the sweep is shown."""

import pytest

from rankviz.api import Api
from rankviz.cli.runs import print_sweep, standing
from rankviz.endpoints.runs import status_json
from rankviz.errors import EngineUnavailableError
from rankviz.jobs.supervisor import KEPT, Supervisor
from rankviz.store.ownership import WantedEngine
from rankviz.ui.parts.sweep import standing_html, sweep_view
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import wait_for, worker
from tests.support.runs import questions


@pytest.fixture
def wished(tmp_path):
    """A sweep of two runs whose first one runs elsewhere, and of which a cancel was asked that is not possible now:
    its id, and its page."""
    api = Api(home=tmp_path / "home")
    elsewhere = Elsewhere(api.workspace.store, tmp_path / "elsewhere", worker("begin(run_ids[0]) and time.sleep(600)"))
    elsewhere.name = "there"
    api.workspace.supervisor = Supervisor(api.workspace.store, engines=[elsewhere], poll_seconds=0.05)
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4, 16)), "", WantedEngine("there"))
    api.workspace.work_queue()
    wait_for(lambda: api.runs.sweep(sweep_id).running)

    def no_login(live):
        raise EngineUnavailableError("It waits for a login.")

    elsewhere.cancel = no_login
    yield sweep_id, api
    api.workspace.supervisor.stop()
    for live in elsewhere.live():
        Elsewhere.cancel(elsewhere, live)


def test_a_wish_to_cancel_that_is_kept_is_said_wherever_the_sweep_is_shown(wished, capsys):
    sweep_id, api = wished
    running = api.runs.sweep(sweep_id).runs[0].run_id
    assert not api.runs.are_unwanted(api.runs.sweep(sweep_id).runs)

    with pytest.raises(EngineUnavailableError, match="It waits for a login") as refusal:
        api.runs.cancel(sweep_id)

    assert str(refusal.value).endswith(KEPT)
    asked = "A cancel was requested. The job goes on until that is done."
    sweep = api.runs.sweep(sweep_id)
    assert asked == api.runs.why_sweep_waits(sweep) == api.runs.why_waits(sweep.runs[0])
    progress = api.runs.progress(sweep)
    assert (asked, None, None) == (progress.trouble, progress.seconds_left, progress.share)
    assert "Time left" not in standing_html(api, sweep)
    status = status_json(api, sweep_id)
    assert [asked, asked] == [status["waits"], next(run for run in status["runs"] if run["run_id"] == running)["waits"]]
    assert asked in standing_html(api, sweep)
    assert asked in standing(api, sweep)
    print_sweep(api, sweep_id)
    assert asked in capsys.readouterr().out
    assert not sweep_view(api, sweep).cancel.visible
