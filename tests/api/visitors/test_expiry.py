"""Runs of visitors that go some days after their end."""

import os
import time

from rankviz.core.runs.events import RunCancelled
from rankviz.shared import retention
from rankviz.shared.retention import DAY, Retention
from rankviz.store import RunStore
from rankviz.visitor import HOST, acting_as, home_of
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.support.web.kept import aged
from tests.support.web.visitors import ADMIN, ANN


def sweep_of(api, visitor, days):
    """A sweep of two runs that ended so many days ago; its id."""
    with acting_as(visitor):
        sweep_id = finished(api, {4: 2.0, 8: 1.9}).sweep_id
    return aged(api, sweep_id, days * DAY)


def here(api):
    return {record.request.sweep_id for record in RunStore(api.workspace.home).records()}


def test_what_a_visitor_and_the_admin_have_goes_after_some_days_and_the_hosts_own_stays(api):
    old = [sweep_of(api, visitor, 31) for visitor in (ANN, ADMIN)]
    young, hosts = sweep_of(api, ANN, 29), sweep_of(api, HOST, 31)

    Retention(api.workspace).remove(time.time())

    assert {young, hosts} == here(api)
    assert not any(name.startswith(tuple(old)) for name in os.listdir(api.workspace.store.runs_dir))


def test_result_files_of_visitors_and_remembered_models_go_too_and_the_hosts_files_stay(api):
    home, now = api.workspace.home, time.time()
    anns, models = home_of(home, ANN.id) / "evidence", home / "introspected"
    for folder in (anns, models, home / "evidence"):
        folder.mkdir(parents=True)
        for days in (29, 31):
            (folder / f"{days}.json").write_text("{}")
            os.utime(folder / f"{days}.json", (now - days * DAY,) * 2)

    Retention(api.workspace).remove(now)

    assert [["29.json"], ["29.json"], ["29.json", "31.json"]] == [
        sorted(os.listdir(folder)) for folder in (anns, models, home / "evidence")
    ]


def test_what_waits_or_runs_stays_however_old_it_is(api):
    sweep_id = aged(api, api.workspace.store.create(questions.sweep(ranks=(4, 8), max_steps=2), ANN.id), 300 * DAY)
    first, _ = api.workspace.store.run_ids(sweep_id)
    api.workspace.store.append(first, RunCancelled(time=1.0))
    aged(api, sweep_id, 300 * DAY)

    Retention(api.workspace).remove(time.time())

    assert 2 == len(api.workspace.store.run_ids(sweep_id))


def test_a_clock_that_jumps_ahead_removes_nothing(api, monkeypatch):
    sweep_id = sweep_of(api, ANN, 1)
    expires = Retention(api.workspace)
    true_time = time.time
    monkeypatch.setattr(retention.time, "time", lambda: true_time() + 5000 * DAY)

    expires.remove(expires.clock.now())
    assert {sweep_id} == here(api)

    monkeypatch.setattr(retention.time, "time", lambda: true_time() - 5000 * DAY)
    assert true_time() - 4999 * DAY > expires.clock.now()
