"""Jobs of a stand-in for the Hub, which starts them as processes: what they cost, how they end, and who may reach them.
What every engine must hold is in tests/engines/test_contract.py."""

import re
import time

import pytest
from rankviz.jobs.hf_jobs.ends import CANCELLED_THERE

from rankviz.core.runs.events import RunFailed
from rankviz.jobs.hf_jobs import ONE_AT_A_TIME, USED_UP, HfJobs
from rankviz.jobs.hub import LOGIN, NO_CREDIT, Logins
from rankviz.jobs.prices import Cost
from rankviz.store import RunStore
from tests.support.engines.hub_jobs import TIMEOUT, only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for, waiting_for, worker

SAVES_AN_ADAPTER = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        folder = store.run_dir(run_id) / 'adapter'\n"
    "        folder.mkdir()\n"
    "        (folder / 'adapter_model.safetensors').write_bytes(b'12345678')\n"
    "        write(run_id, AdapterSaved(time=time.time(), path='adapter', file_bytes=8))\n"
    "        complete(run_id)"
)
WEIGHTS = "adapter/adapter_model.safetensors"


def texts_below(folder):
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_a_job_carries_a_base_with_all_its_runs_and_its_time_limit_is_what_the_spending_limit_pays_for(
    supervise, store, hub
):
    run_ids = sweep(store, 2, 4, flavor="t4-small", spend="1.5")

    supervise().settle()

    spec = only_job(hub).spec
    assert ["completed"] * 2 == states(store, run_ids)
    assert "t4-small" == spec["flavor"]
    assert int(60 * 1.5 / 0.006667 - 600) == spec["timeoutSeconds"]
    assert {"dataset", "bucket"} == {volume["type"] for volume in spec["volumes"]}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value) for value in spec["labels"].values())


def test_no_token_is_written_down_and_none_goes_into_the_job(supervise, store, hub):
    run_ids = sweep(store, 4)

    supervise().settle()

    assert ["completed"] == states(store, run_ids)
    assert "secrets" not in only_job(hub).spec
    assert not [text for text in (*texts_below(store.home), *texts_below(hub.place)) if b"hf_alice" in text]


def test_what_a_job_cost_is_kept_when_it_has_been_read(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1")
    supervisor = supervise()

    supervisor.settle()

    bill = supervisor.engines[0].bill(store.get(run_id).request.sweep_id)
    assert (1, pytest.approx(0.013333), True) == bill[:3]


def test_a_sweep_starts_no_job_that_its_spending_limit_does_not_pay_for_any_more(supervise, store, hub, logins):
    run_ids = sweep(store, 4, spend="2")
    HfJobs(store, logins).spending.add(store.get(run_ids[0]).request.sweep_id, "an-earlier-job", Cost(1.9, 1.9))

    supervise().settle()

    assert ["failed"] == states(store, run_ids)
    assert USED_UP.rstrip(".") in store.get(run_ids[0]).error
    assert {} == hub.jobs


def test_a_sweep_without_jobs_has_no_bill(store, logins):
    assert (0, 0, True, 0) == HfJobs(store, logins).bill("20260101-000000-abcd")


def test_a_job_that_runs_is_on_the_bill_and_while_it_cannot_be_read_the_bill_is_not_whole(
    supervise, store, hub, logins
):
    (run_id,) = sweep(store, 4, flavor="l4x1")
    engine = supervise(HANG_IN_EACH).engines[0]
    sweep_id = store.get(run_id).request.sweep_id
    wait_for(lambda: store.get(run_id).steps)

    wait_for(lambda: engine.bill(sweep_id).usd >= 0.013333 and engine.bill(sweep_id).is_whole)
    logins.forget("ann")

    wait_for(lambda: engine.bill(sweep_id)[:3] == (1, pytest.approx(0.013333), False))


def test_each_job_of_a_sweep_is_on_the_bill_once(store, logins):
    engine = HfJobs(store, logins)

    for job, usd in (("r4-a1", 0.5), ("r4-a2", 0.25), ("r4-a1", 0.5)):
        engine.spending.add("s", job, Cost(usd, usd))

    assert (2, 0.75, True, 0.75) == engine.bill("s")


def test_a_job_that_was_deleted_on_hugging_face_is_lost_and_keeps_what_it_has_cost(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1")
    supervisor = supervise(HANG_IN_EACH, look_seconds=0.5)
    engine, sweep_id = supervisor.engines[0], store.get(run_id).request.sweep_id
    wait_for(lambda: store.get(run_id).steps and engine.bill(sweep_id).usd)

    job = only_job(hub)
    hub.end(job, "ERROR")
    hub.jobs = {"another": job}
    wait_for(lambda: store.get(run_id).attempt == 2 and f"{run_id}-a1" in engine.spending.jobs(sweep_id))

    assert 0.013333 <= engine.spending.jobs(sweep_id)[f"{run_id}-a1"].least


def test_two_jobs_of_a_sweep_never_run_at_once_since_each_would_have_the_whole_limit(supervise, store, hub):
    first, second = sweep(store, 2, 4, spend="2")
    store.begin(second)
    store.append(second, RunFailed(time=time.time(), error="out of memory"))
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(first).steps)

    store.requeue(second)
    wait_for(lambda: store.get(second).waits == ONE_AT_A_TIME)
    supervisor.cancel(first)
    wait_for(lambda: len(hub.jobs) == 2)

    one, two = hub.jobs.values()
    assert "CANCELED" == one.stage
    (spent,) = supervisor.engines[0].spending.jobs(store.get(first).request.sweep_id).values()
    assert 0.013333 <= spent.least == spent.most
    assert int(60 * (2 - spent.most) / 0.013333 - 600) == two.spec["timeoutSeconds"]
    supervisor.cancel(second)


def test_an_adapter_is_here_when_its_run_has_completed(supervise, store, hub):
    (run_id,) = sweep(store, 4)

    supervise(SAVES_AN_ADAPTER).settle()

    assert ["completed"] == states(store, [run_id])
    assert b"12345678" == (store.run_dir(run_id) / WEIGHTS).read_bytes()


@pytest.mark.parametrize("seen", [b"1234", None])
def test_a_half_written_bucket_fails_the_run_and_not_the_losses(supervise, store, hub, seen):
    (run_id,) = sweep(store, 4)
    hub.shows[WEIGHTS] = seen

    supervise(SAVES_AN_ADAPTER).settle()

    assert ["failed"] == states(store, [run_id])
    assert "its adapter is not here" in store.get(run_id).error
    assert [1] == [step.step for step in store.get(run_id).steps]


def test_a_run_is_read_from_the_log_where_the_bucket_shows_half_of_its_journal(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    hub.shows["events.jsonl"] = b'{"event": "StepLogged", "ti'

    supervise().settle()

    assert ["completed"] * 2 == states(store, run_ids)


def test_a_run_is_read_from_the_bucket_where_the_log_says_nothing(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    hub.drops_log = True

    supervise().settle()

    assert ["completed"] * 2 == states(store, run_ids)


def test_a_machine_that_is_lost_costs_its_run_one_attempt(supervise, store, hub, tmp_path):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_id).steps)

    hub.end(only_job(hub), "ERROR", "The node was lost")
    (tmp_path / "go").touch()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])
    assert 2 == store.get(run_id).attempt == len(hub.jobs)


def test_a_job_that_reaches_its_time_limit_is_not_started_again(supervise, store, hub):
    run_ids = sweep(store, 4, 8, spend="2")
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)

    hub.end(only_job(hub), "ERROR", TIMEOUT)
    supervisor.settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert all("which the spending limit pays for" in store.get(run_id).error for run_id in run_ids)
    assert 1 == len(hub.jobs)


def test_a_job_that_its_owner_cancels_on_hugging_face_is_not_started_again_until_it_is_asked_for(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)

    hub.end(only_job(hub), "CANCELED")
    supervisor.settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert [CANCELLED_THERE] * 2 == [store.get(run_id).error for run_id in run_ids]
    assert 1 == len(hub.jobs)
    for run_id in run_ids:
        store.requeue(run_id)
    wait_for(lambda: len(hub.jobs) == 2)
    supervisor.cancel(store.get(run_ids[0]).request.sweep_id)


def test_a_run_that_was_the_only_one_of_such_a_job_starts_again_once_it_is_asked_for(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    hub.end(only_job(hub), "CANCELED")
    supervisor.settle()

    store.requeue(run_id)

    wait_for(lambda: len(hub.jobs) == 2 and store.get(run_id).steps)
    supervisor.cancel(run_id)


def test_what_its_machine_waits_for_is_said(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.holds.set()

    supervisor = supervise()
    wait_for(lambda: "free machine" in store.get(run_id).waits)
    hub.holds.clear()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])


def test_without_its_owners_login_a_run_waits_and_says_so(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4, owner="ben")

    supervisor = supervise()
    wait_for(lambda: store.get(run_id).waits == LOGIN)
    assert {} == hub.jobs
    logins.give("ben", "hf_ben")
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])
    assert "ben" == only_job(hub).namespace


def test_a_login_that_ends_leaves_the_job_running_and_the_next_one_goes_on_with_it(
    supervise, store, hub, logins, tmp_path
):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_id).steps)

    logins.forget("ann")
    wait_for(lambda: store.get(run_id).waits == LOGIN)
    (tmp_path / "go").touch()
    wait_for(lambda: only_job(hub).ended)
    assert "running" == store.get(run_id).state
    hub.tokens = {"hf_new": "alice"}
    logins.give("ann", "hf_new")
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])
    assert (1, 1) == (store.get(run_id).attempt, len(hub.jobs))


def test_a_token_that_hugging_face_rejects_is_forgotten(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4)
    hub.tokens.clear()

    supervise()
    wait_for(lambda: store.get(run_id).waits)

    wait_for(lambda: logins.of("ann") is None)
    assert "queued" == store.get(run_id).state


def test_a_restarted_app_finds_a_job_again_once_its_owner_returns(supervise, store, hub, tmp_path):
    (run_id,) = sweep(store, 4)
    supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_id).steps)
    first = only_job(hub)

    later = Logins(hub.url, of_machine=False)
    engine = HfJobs(RunStore(store.home), later, poll_seconds=0.1)
    (live,) = engine.live()

    assert (first.id, LOGIN) == (live.handle, live.waits)
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


def test_a_start_that_never_reached_hugging_face_is_tried_again(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.refuses["POST /api/jobs/"] = (503, "busy")

    supervisor = supervise(look_seconds=0.5)
    wait_for(lambda: "POST /api/jobs/alice" in hub.calls)
    hub.refuses.clear()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])
    assert 1 == len(hub.jobs)


def test_an_account_without_credit_fails_the_runs_with_what_to_do(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    hub.refuses["POST /api/jobs/"] = (402, "Payment required")

    supervise().settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert [NO_CREDIT] * 2 == [store.get(run_id).error for run_id in run_ids]
    assert [1, 1] == [store.get(run_id).attempt for run_id in run_ids]


def test_a_flavor_that_there_is_not_fails_the_runs_and_names_those_there_are(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="h900")

    supervise().settle()

    assert "It has: cpu-basic, t4-small, l4x1, a100-large" in store.get(run_id).error


def test_what_was_sent_is_removed_once_it_has_been_read_and_the_bucket_is_left_to_its_owner(supervise, store, hub):
    (run_id,) = sweep(store, 4)

    supervise().settle()

    sent = hub.folder("dataset", "alice/rankviz-jobs")
    wait_for(lambda: not (sent / f"{run_id}-a1").exists())
    assert (hub.folder("bucket", "alice/rankviz-runs") / f"{run_id}-a1" / "runs" / run_id / "events.jsonl").exists()
