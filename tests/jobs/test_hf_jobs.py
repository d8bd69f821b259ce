"""Jobs of a stand-in for the Hub, which starts them as processes: what they cost, how they end, and who may reach them.
What every engine must hold is in test_contract.py."""

import json
import math
import re
import shutil
import time
from contextlib import nullcontext

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.errors import EngineError, EngineUnavailableError
from rankviz.jobs.hf_jobs import ANOTHER_ACCOUNT, CANCELLED_THERE, ONE_AT_A_TIME, SCHEDULED, USED_UP, HfJobs
from rankviz.jobs.hub import BUCKET, LOGIN, STARTING, Logins, cost_of
from rankviz.jobs.local import Local
from rankviz.jobs.remote import NEVER
from rankviz.store import RunStore
from rankviz.store.journal import Ownership, WantedEngine, request_text
from tests.support.engines.hub_jobs import TIMEOUT, only_job, stand_in_hub, sweep
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.processes.workers import COMPLETE_ALL, HANG_IN_EACH, Patient, states, wait_for, waiting_for
from tests.support.runs import questions

COMMIT, START = "POST /api/datasets/alice/rankviz-jobs/commit", "POST /api/jobs/alice"


def texts_below(folder):
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_a_job_carries_a_base_with_all_its_runs_within_its_limit_no_token_and_its_cost_is_kept(supervise, store, hub):
    hub.unpacks = True
    run_ids = sweep(store, 2, 4, flavor="t4-small", spend="1.5")
    supervisor = supervise()

    supervisor.settle()

    spec = only_job(hub).spec
    assert ["completed"] * 2 == states(store, run_ids)
    assert ("t4-small", int(60 * 1.5 / 0.006667 - 600)) == (spec["flavor"], spec["timeoutSeconds"])
    assert {"dataset", "bucket"} == {volume["type"] for volume in spec["volumes"]}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value) for value in spec["labels"].values())
    assert "secrets" not in spec
    assert not [text for text in (*texts_below(store.home), *texts_below(hub.place)) if b"hf_alice" in text]
    bill = supervisor.engines[0].bill(store.get(run_ids[0]).request.sweep_id)
    assert (1, pytest.approx(0.006667), True) == bill[:3]


def test_a_sweep_starts_no_job_that_its_spending_limit_does_not_pay_for_any_more(supervise, store, hub, logins):
    run_ids = sweep(store, 4, spend="2")
    costs = {"an-earlier-job": (1.9, 1.9)}
    HfJobs(store, logins).ledger.note(store.get(run_ids[0]).request.sweep_id, costs=costs)

    supervise().settle()

    assert ["failed"] == states(store, run_ids)
    assert USED_UP.rstrip(".") in store.get(run_ids[0]).error
    assert {} == hub.jobs


def test_a_job_that_runs_is_on_the_bill_and_while_it_cannot_be_read_the_bill_is_not_whole(
    supervise, store, hub, logins, monkeypatch
):
    monkeypatch.setattr("rankviz.jobs.remote.NOTE_SECONDS", 0.0)
    monkeypatch.setattr("rankviz.jobs.hub.FOLLOWED_SECONDS", 1.0)
    (run_id,) = sweep(store, 4, flavor="l4x1")
    engine = supervise(HANG_IN_EACH).engines[0]
    sweep_id = store.get(run_id).request.sweep_id
    wait_for(lambda: store.get(run_id).steps)

    wait_for(lambda: engine.bill(sweep_id).usd >= 0.013333 and engine.bill(sweep_id).is_whole)
    next(iter(hub.jobs.values())).created -= 50  # so that the next minute of the bill is near
    (name,) = engine.jobs(sweep_id)
    wait_for(lambda: engine.jobs()[name].seconds >= 50)
    logins.forget("ann")

    wait_for(lambda: not engine.bill(sweep_id).is_whole)
    job = engine.jobs()[name]
    assert (1, pytest.approx(cost_of(job.seconds, job.terms.usd_per_minute))) == engine.bill(sweep_id)[:2]


def test_two_jobs_of_a_sweep_never_run_at_once_since_each_would_have_the_whole_limit(supervise, store, hub):
    first, second = sweep(store, 2, 4, spend="2")
    store.begin(second)
    store.append(second, RunFailed(time=time.time(), error="out of memory"))
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(first).steps)

    store.requeue_all([second])
    wait_for(lambda: store.get(second).waits == ONE_AT_A_TIME)
    supervisor.cancel(first)
    wait_for(lambda: len(hub.jobs) == 2)

    one, two = hub.jobs.values()
    assert "CANCELED" == one.stage
    assert int(60 * (2 - 0.013333) / 0.013333 - 600) == two.spec["timeoutSeconds"]
    supervisor.cancel(second)


def test_while_a_job_s_folder_is_damaged_no_other_of_its_sweep_starts_and_no_bill_is_made_but_others_go_on(
    supervise, store, hub
):
    first, second = sweep(store, 2, 4, spend="2")
    store.begin(second)
    store.append(second, RunFailed(time=time.time(), error="out of memory"))
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(first).steps)
    supervisor.stop()
    (store.home / f"hf-jobs/{first}-a1/job.json").write_text("{")

    supervisor = supervise(HANG_IN_EACH)
    store.requeue_all([second])
    (other,) = sweep(store, 8)
    wait_for(lambda: store.get(other).steps and (store.get(second).waits or store.get(second).steps))

    assert (True, 2) == ("The files of a job cannot be read" in store.get(second).waits, len(hub.jobs))
    with pytest.raises(EngineUnavailableError, match="cannot be read"):
        supervisor.engines[0].bill(store.get(first).request.sweep_id)
    assert 1 == supervisor.engines[0].bill(store.get(other).request.sweep_id).jobs
    supervisor.cancel(other)


@pytest.mark.parametrize(
    "stage, message, words",
    [("ERROR", TIMEOUT, "which the spending limit pays for"), ("CANCELED", "", CANCELLED_THERE)],
)
def test_a_job_that_reaches_its_limit_or_is_cancelled_there_is_not_started_again_until_it_is_asked_for(
    supervise, store, hub, stage, message, words
):
    run_ids = sweep(store, 4, 8, spend="2")
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)

    hub.end(only_job(hub), stage, message)
    supervisor.settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert all(words in store.get(run_id).error for run_id in run_ids)
    assert 1 == len(hub.jobs)
    store.requeue_all([run_ids[1]])
    wait_for(lambda: len(hub.jobs) == 2)
    supervisor.cancel(run_ids[1])


def test_a_login_that_ends_leaves_the_job_running_and_the_next_goes_on_with_it(supervise, store, hub, logins, tmp_path):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_id).steps)

    logins.forget("ann")
    (other,) = sweep(store, 8)
    wait_for(lambda: [store.get(each).waits for each in (run_id, other)] == [LOGIN] * 2)
    (tmp_path / "go").touch()
    wait_for(lambda: only_job(hub).ended)
    assert "running" == store.get(run_id).state
    hub.tokens = {"hf_new": "alice"}
    logins.give("ann", "hf_new")
    supervisor.settle()

    assert ["completed"] * 2 == states(store, [run_id, other])
    assert (1, 2) == (store.get(run_id).attempt, len(hub.jobs))


def test_a_restarted_app_finds_a_job_again_once_its_owner_returns(supervise, store, hub, tmp_path):
    (run_id,) = sweep(store, 4)
    supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_id).steps)

    later = Logins(hub.url, of_machine=False)
    engine = HfJobs(RunStore(store.home), later, poll_seconds=0.1)
    (live,) = engine.live()

    assert (only_job(hub).id, LOGIN) == (live.handle, live.waits)
    later.give("ann", "hf_alice")
    wait_for(lambda: [each.waits for each in engine.live()] == [""])
    engine.release()
    (tmp_path / "go").touch()


def test_a_start_whose_answer_was_lost_is_found_by_its_labels_and_not_started_twice(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.loses_answers = 1

    supervise().settle()

    assert ["completed"] == states(store, [run_id])
    assert 1 == len(hub.jobs)


def test_a_job_whose_fate_is_not_known_counts_with_its_whole_time_limit(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="2")
    hub.loses_answers, hub.lists_nothing = 1, True
    engine = supervise().engines[0]
    wait_for(lambda: "RankViz looks for it" in store.get(run_id).waits)

    bill = engine.bill(store.get(run_id).request.sweep_id)

    assert (1, 0.0, False) == bill[:3]
    longest = only_job(hub).spec["timeoutSeconds"] + STARTING.high
    assert pytest.approx(longest / 60 * 0.013333, abs=0.013333) == bill.most_usd


def test_answers_that_are_lost_again_and_again_start_two_jobs_at_most(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.loses_answers, hub.lists_nothing = math.inf, True

    supervise(HANG_IN_EACH, missing_seconds=0.3).settle()

    assert ["failed"] == states(store, [run_id])
    assert len(hub.jobs) <= 2
    assert NEVER == store.get(run_id).error


def test_of_two_jobs_with_one_label_the_older_is_cancelled_and_jobs_that_are_not_rankviz_s_are_left_alone(
    supervise, store, hub
):
    (run_id,) = sweep(store, 4)
    hub.holds.set()
    hub.loses_answers, hub.lists_nothing = 1, True
    supervise(HANG_IN_EACH, missing_seconds=600)
    wait_for(lambda: "RankViz looks for it" in store.get(run_id).waits)
    first = only_job(hub)
    for labels in (None, {}, {"app": "rankviz"}, {"job": "1"}, first.spec["labels"]):
        hub.start(first.namespace, {**first.spec, "labels": labels})

    hub.lists_all, hub.lists_nothing = True, False

    wait_for(lambda: first.ended and store.get(run_id).waits == SCHEDULED)
    assert ["CANCELED", *["SCHEDULING"] * 5] == [job.stage for job in hub.jobs.values()]


def test_a_page_that_stopped_between_asking_and_the_answer_does_not_ask_again(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.hangs.add(START)
    first = supervise()
    wait_for(lambda: START in hub.calls)
    first.stop()
    hub.hangs.clear()

    supervise().settle()

    assert ["completed"] == states(store, [run_id])
    assert (1, 1) == (hub.calls.count(START), len(hub.jobs))


def test_while_hugging_face_does_not_answer_a_start_runs_elsewhere_start_and_are_cancelled(supervise, store, hub):
    (here,) = sweep(store, 2, owner="ben", engine="local")
    (there,) = sweep(store, 4)
    hub.hangs.add(COMMIT)
    supervisor = supervise()
    wait_for(lambda: any(each.startswith(COMMIT) for each in hub.calls) and store.get(here).steps)

    supervisor.cancel(here)

    assert ["cancelled", "queued"] == states(store, [here, there])
    hub.hangs.clear()
    supervisor.settle()
    assert ["completed"] == states(store, [there])


def test_a_job_that_could_not_be_ended_is_ended_as_soon_as_it_can_be(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    cancel = f"POST /api/jobs/alice/{only_job(hub).id}/cancel"
    hub.refuses[cancel] = (503, "busy")
    with pytest.raises(EngineUnavailableError, match="busy"):
        while True:
            supervisor.cancel(store.get(run_ids[0]).request.sweep_id)
    hub.refuses.clear()
    supervisor.settle()

    assert ["cancelled"] * 2 == states(store, run_ids)
    assert "CANCELED" == only_job(hub).stage


def test_where_another_account_is_logged_in_that_is_said_and_nothing_is_asked_of_it(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    logins.forget("ann")
    logins.give("ann", "hf_ben")
    wait_for(lambda: store.get(run_id).waits == ANOTHER_ACCOUNT)

    with pytest.raises(EngineUnavailableError, match="another account"):
        supervisor.cancel(run_id, timeout_seconds=0.2)
    assert only_job(hub).ended is None


def test_nothing_is_sent_where_others_can_read_it(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.public = {BUCKET}

    supervise().settle()

    assert ["failed"] == states(store, [run_id])
    assert f"alice/{BUCKET} on Hugging Face, so nothing is sent there" in store.get(run_id).error
    assert {} == hub.jobs
    assert not [path for path in hub.folder("dataset", "alice/rankviz-jobs").rglob("*") if path.is_file()]


def restored(engine, owner="ann", admit=lambda new: nullcontext()):
    return [run_id for run_ids in engine.restore(owner, admit) for run_id in run_ids]


@pytest.fixture
def emptied(store, hub, logins, supervise, tmp_path):
    """A home that knows nothing of a job which it started before its disk was emptied: (store, engine, run ids)."""
    run_ids = sweep(store, 2, 4, flavor="l4x1")
    first = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()
    for name in ("runs", "hf-jobs"):
        shutil.rmtree(store.home / name)
    here = RunStore(store.home)
    engine = HfJobs(here, logins, poll_seconds=0.1)
    yield here, engine, run_ids
    engine.release()


def test_a_job_whose_page_lost_its_disk_comes_back_once_with_its_owner_and_is_not_started_again(emptied, hub, tmp_path):
    store, engine, run_ids = emptied

    def meanwhile(new):
        assert run_ids == restored(engine)  # on another page
        return nullcontext()

    with pytest.raises(EngineError, match="here already"):
        restored(engine, admit=meanwhile)
    assert [] == restored(engine)

    supervisor = Patient(store, engines=[engine], poll_seconds=0.05)
    supervisor.start()
    (tmp_path / "go").touch()
    supervisor.finish()

    assert (["completed"] * 2, 1) == (states(store, run_ids), len(hub.jobs))
    assert {"ann"} == {store.ownership(run_id).owner for run_id in run_ids}
    assert [] == restored(engine)


def test_what_comes_back_and_is_lost_is_started_again_only_when_somebody_asks(emptied, hub):
    store, engine, run_ids = emptied
    assert run_ids == restored(engine)
    supervisor = Patient(store, engines=[engine], poll_seconds=0.05, max_attempts=5)
    supervisor.start()
    wait_for(lambda: store.get(run_ids[0]).steps)
    hub.end(only_job(hub), "ERROR", "The node was lost")
    supervisor.finish()

    assert (["failed"] * 2, 1) == (states(store, run_ids), len(hub.jobs))
    assert store.get(run_ids[0]).error.endswith("The node was lost. Resume the sweep to start what is left.")


def test_a_job_comes_back_to_its_own_page_and_owner_and_into_no_sweep_of_another(emptied, logins, tmp_path):
    store, engine, run_ids = emptied
    logins.give("ben", "hf_ben")
    elsewhere = RunStore(tmp_path / "elsewhere")
    elsewhere.home.mkdir()

    assert [] == restored(engine, "ben")
    assert [] == restored(HfJobs(elsewhere, logins))
    sweep_id = run_ids[0].removesuffix("-001-r2")
    (request,) = questions.sweep(ranks=(2,)).runs(sweep_id=sweep_id, created_at=1.0)
    store.publish({request.run_id: {"request.json": request_text(request)}}, Ownership("ben"))
    assert [] == restored(engine)
    assert 0 == engine.bill(sweep_id).jobs


def test_a_job_that_comes_back_without_a_spending_limit_can_be_settled(emptied, hub):
    _, engine, run_ids = emptied
    content = json.loads(next(hub.folder("dataset", "alice/rankviz-jobs").rglob("job.json")).read_text())
    content["terms"]["limit_usd"] = 0.0
    hub.shows = {"job.json": json.dumps(content).encode()}
    assert run_ids == restored(engine)

    engine.forget(engine.live()[0])
    assert 1 == engine.bill(content["terms"]["sweep_id"]).jobs


def test_what_cannot_be_read_of_a_job_does_not_come_back(emptied, hub):
    for file, content in (
        ("job.json", b"{"),
        ("job.json", b'{"kind": "finetune", "attempts": ["../../x@1"]}'),
        ("job.json", b'{"kind": "finetune", "attempts": ["x@1"], "terms": {"flavor": "l4x1"}}'),
        ("request.json", b"[" * 9999),
    ):
        hub.shows = {file: content}

        assert [] == restored(emptied[1])


def test_a_sweep_whose_costs_cannot_be_read_waits_and_says_what_to_do(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="3")
    file = store.home / f"hf-jobs/{store.get(run_id).request.sweep_id}.json"
    file.parent.mkdir()
    file.write_text("nan")
    supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).waits.endswith("then the spending limit counts from 0."))
    assert {} == hub.jobs

    file.unlink()

    wait_for(lambda: hub.jobs)
    assert int(60 * 3.0 / 0.013333 - 600) == only_job(hub).spec["timeoutSeconds"]


@pytest.fixture
def hub(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def logins(hub):
    logins = Logins(hub.url, of_machine=False)
    logins.give("ann", "hf_alice")
    return logins


@pytest.fixture
def supervise(store, logins, started):
    """Starts a supervisor that rents from the stand-in, and trains on this machine too, where runs hang."""

    def start(command=COMPLETE_ALL, **settings):
        here = RunStore(store.home)
        engine = HfJobs(here, logins, worker=command, poll_seconds=0.1, **settings)
        return started(here, engine, Local(here.home, commands={"finetune": HANG_IN_EACH}, grace_seconds=0.2))

    return start


@pytest.mark.torch
def test_a_sweep_trained_in_a_job_has_the_losses_and_adapters_of_one_trained_here(tmp_path, hub):
    hub.unpacks = True
    logins = Logins(hub.url, of_machine=False)
    logins.give("", "hf_alice")
    model, data = make_tiny_llama(tmp_path / "model"), write_tiny_data(tmp_path / "data.jsonl")
    request = questions.sweep(base=str(model), data=str(data), ranks=(2, 4), max_steps=3)
    store = RunStore(tmp_path / "home")
    run_ids = [
        each for name in ("local", "hf-jobs") for each in store.run_ids(store.create(request, "", WantedEngine(name)))
    ]
    there = HfJobs(store, logins, sees_folders=True, poll_seconds=0.2)
    supervisor = Patient(store, engines=[Local(store.home), there], poll_seconds=0.1)
    supervisor.start()
    supervisor.settle(timeout_seconds=1200)
    supervisor.stop()

    runs = [store.get(run_id) for run_id in run_ids]
    assert ["completed"] * 4 == [run.state for run in runs], [run.error for run in runs]
    weights = [store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors" for run in runs]
    found = [
        ([step.loss for step in run.steps], run.loss_after.loss, file.read_bytes())
        for run, file in zip(runs, weights, strict=True)
    ]
    assert found[:2] == found[2:]
