"""What Trackio is sent of a run: by a stand-in that records its documented functions, and by Trackio itself where it is
installed."""

import json
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from rankviz.api import Api
from rankviz.errors import PublishError
from rankviz.publish import TRACKIO, Destination
from rankviz.publish.files import SweepFacts
from rankviz.worker.sending import forget, send
from tests.support.engines.hub_stand_in import hub_stand_in
from tests.support.runs.finished_runs import plain_sweep
from tests.support.runs.published import trained


class Recorder:
    """Trackio's init, log, finish and Api, as far as they are documented."""

    def __init__(self, runs=(), warns=""):
        self.runs, self.warns = list(runs), warns
        self.logged = []

    def init(self, **settings):
        if self.warns:
            warnings.warn(self.warns, stacklevel=1)

    def log(self, metrics, step=None):
        self.logged.append((step, metrics))

    def finish(self):
        pass

    def Api(self):
        return SimpleNamespace(runs=lambda project: self.runs)


def test_the_loss_is_logged_by_step_between_the_evaluations_of_the_base_and_of_the_adapter():
    trackio, runs = Recorder(), plain_sweep({4: 2.0}).runs
    facts = SweepFacts(sweep_id="s1", base_model="owner/base", runs=runs, all_runs=runs)

    send(trackio, runs[0], facts, "ranks", {})

    steps = dict(trackio.logged)
    assert [0, 1, 2] == [step for step, _ in trackio.logged]
    assert 7.5 == steps[0]["eval/loss"]
    assert (5.0, 4.0) == (steps[1]["train/loss"], steps[2]["train/loss"])
    assert (2.0, 2 * 2**30) == (steps[2]["eval/loss"], steps[2]["memory/peak_bytes"])
    with pytest.raises(PublishError, match="could not send everything to alice/board: no room"):
        send(Recorder(warns="no room"), runs[0], facts, "ranks", {"space_id": "alice/board"})


def test_a_run_of_this_name_that_somebody_else_made_stays():
    deleted = []
    ours, theirs = (
        SimpleNamespace(name=name, config={"made_by": maker}, delete=lambda name=name: deleted.append(name))
        for name, maker in (("a", "RankViz"), ("b", "me"))
    )

    forget(Recorder([ours, theirs]), "ranks", {"a"})
    with pytest.raises(PublishError, match="that RankViz did not send: choose another project"):
        forget(Recorder([ours, theirs]), "ranks", {"b"})
    assert ["a"] == deleted


@pytest.mark.skipif(find_spec("trackio") is None, reason="Trackio is not installed")
def test_trackio_itself_holds_each_run_once_with_its_losses_however_often_it_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    api = Api(home=tmp_path / "home", shared=False)
    sweep = trained(api)
    place = Destination(to=TRACKIO, name="ranks")

    with hub_stand_in() as elsewhere, monkeypatch.context() as variables:
        variables.setenv("TRACKIO_SERVER_URL", f"{elsewhere.url}/?write_token=0")  # nobody chose to send it there
        first = api.runs.publish(sweep.sweep_id, place)
        api.runs.publish(sweep.sweep_id, place)

    assert [] == elsewhere.asked
    assert "Sent to the Trackio project ranks on this machine" in first.in_words(place)
    names = command("list", "runs", "--project", "ranks", "--json")["runs"]
    assert sorted(run.run_id for run in sweep.runs) == sorted(
        each["name"] if isinstance(each, dict) else each for each in names
    )
    run = sweep.runs[0].run_id
    losses = command("get", "metric", "--project", "ranks", "--run", run, "--metric", "train/loss", "--json")["values"]
    assert [(1, 5.0), (2, 4.0)] == [(each["step"], each["value"]) for each in losses]


def command(*words):
    done = subprocess.run(
        [sys.executable, "-m", "trackio.cli", *words], capture_output=True, text=True, check=True, env=os.environ
    )
    return json.loads(done.stdout)
