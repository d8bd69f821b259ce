"""What is kept of visitors and of bases, what makes room for what comes, and what goes with time."""

import os
import shutil
import time
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import RunCancelled
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.hub import reach
from rankviz.shared import retention
from rankviz.shared.quota import Held
from rankviz.shared.retention import DAY, remove_old, steady_clock
from rankviz.visitor import HOST, acting_as, home_of
from tests.api.visitors.test_quota import SMALL
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.support.runs.probes import SMOL
from tests.support.runs.probes import request as probe_request
from tests.support.web.hub_cache import put, repositories
from tests.support.web.kept import aged, ended, imported, kept_data, sweeps_here, upload_of
from tests.support.web.visitors import ADMIN, ANN, BEN, CARL


def test_runs_of_a_visitor_are_kept_up_to_a_number_and_none_makes_room_for_another(shared):
    api = shared(runs_kept=4)
    with acting_as(ANN):
        sweep_id = api.runs.start(questions.sweep(ranks=(4, 8, 16), max_steps=2))
        for run in api.runs.sweep(sweep_id).runs:
            api.workspace.store.append(run.run_id, RunCancelled(time=1.0))

        with pytest.raises(LimitError) as refusal:
            api.runs.start(questions.sweep(ranks=(4, 8), max_steps=2))
        assert "keeps at most 4 runs per visitor, probes too (you have 3, and this adds 2)" in str(refusal.value)
        assert 3 == len(api.runs.sweep(sweep_id).runs)
        api.runs.delete(api.runs.sweep(sweep_id).runs[0].run_id)
        api.runs.start(questions.sweep(ranks=(4, 8), max_steps=2))


def test_an_import_over_the_number_of_kept_runs_is_taken_back_whole(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(runs_kept=2)
    store = api.workspace.store
    exported = upload_of(ended(store, BEN.id, 4, 8, 16), api, tmp_path)

    with acting_as(ANN), pytest.raises(LimitError, match="keeps at most 2 runs per visitor"):
        api.runs.import_(exported)

    assert [] == store.records()


def of_much_journal(sweep_id, store):
    """The same sweep, whose journal is packed to a small part of its 640 kB."""
    journal = store.run_dir(store.run_ids(sweep_id)[0]) / "events.jsonl"
    stage = b'{"event": "StageReached", "time": 1.0, "stage": "loading"}\n'
    journal.write_bytes(stage * 11_000 + journal.read_bytes())
    return sweep_id


def test_the_journals_of_imported_runs_count_among_a_visitors_files(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(files_mb_per_visitor=1, record_kb=1000)
    store = api.workspace.store
    exported = upload_of(of_much_journal(ended(store, BEN.id, 4), store), api, tmp_path)

    with acting_as(ANN):
        (run_id,) = api.runs.import_(exported)
        assert 600_000 < api.workspace.room.used_bytes(ANN)
        api.runs.delete(run_id)
        api.workspace.room.hold(Held(ANN), 500_000)
        with pytest.raises(LimitError, match=r"These runs take .* and this server has .* left for files of yours"):
            api.runs.import_(exported)

    assert [] == store.records()


def test_data_that_runs_keep_count_among_a_visitors_files_and_once_each(shared, uploaded):
    api = shared(files_mb_per_visitor=1, sweeps_per_visitor=9)
    first = uploaded(api, ANN, 400)

    with acting_as(ANN):
        api.runs.start(questions.sweep(**SMALL, data=first))
        api.runs.start(questions.sweep(**SMALL, data=first))
        with pytest.raises(LimitError, match="at most 1 MB of a visitor's files"):
            api.runs.start(questions.sweep(**SMALL, data=uploaded(api, ANN, 150, "y")))
    with acting_as(BEN):
        api.runs.start(questions.sweep(**SMALL, data=uploaded(api, BEN, 400, "z")))

    assert 2 == len(kept_data(api))


def cancelled(api, visitor, name):
    """The id of a visitor's probe."""
    probe = probe_request(f"probe-{name}")
    api.workspace.store.create_probe(probe, "{}", visitor.id)
    api.workspace.store.append(probe.probe_id, RunCancelled(time=1.0))
    return probe.probe_id


def imports(api, tmp_path):
    exported = upload_of(ended(api.workspace.store, BEN.id, 4), api, tmp_path)
    with acting_as(ANN):
        api.runs.import_(exported)


def adds(api, tmp_path):
    api.runs.add(next(iter(api.runs.sweeps())).sweep_id, 8)


MORE = {
    "a sweep": lambda api, tmp_path: api.runs.start(ONE_RUN),
    "a run": adds,
    "a probe": lambda api, tmp_path: api.machine.start_probe(questions.probe(SMOL)),
    "an import": imports,
}


@pytest.mark.parametrize("more", MORE)
def test_ended_probes_make_room_for_whatever_a_visitor_wants_next(shared, tmp_path, monkeypatch, more):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(runs_kept=3)
    kept = ended(api.workspace.store, ANN.id, 4)
    first, second = cancelled(api, ANN, "1"), cancelled(api, ANN, "2")

    with acting_as(ANN):
        MORE[more](api, tmp_path)

    assert {kept, second} <= sweeps_here(api)
    assert first not in sweeps_here(api)
    assert 3 == len(api.workspace.store.records())


LOW, ONE_RUN, TWO_RUNS, THREE_RUNS = (
    questions.sweep(ranks=ranks, max_steps=2) for ranks in ((1,), (4,), (4, 8), (4, 8, 16))
)


def test_where_all_visitors_have_too_many_the_oldest_imported_sweep_makes_room_whole(shared):
    api = shared(runs_in_total=6)
    store = api.workspace.store
    newer = imported(api, ended(store, CARL.id, 4))
    aged(api, imported(api, ended(store, BEN.id, 4, 8)), 60)
    trained = aged(api, ended(store, BEN.id, 4), 120)

    with acting_as(ANN):
        mine = api.runs.start(THREE_RUNS)

    assert {newer, trained, mine} == sweeps_here(api)


def test_nothing_of_a_sweep_that_has_not_ended_and_no_trained_run_makes_room(shared):
    api = shared(runs_in_total=5)
    store = api.workspace.store
    trained, queued = ended(store, BEN.id, 4), store.create(TWO_RUNS, BEN.id)
    imported(api, queued)
    store.append(store.run_ids(queued)[0], RunCancelled(time=1.0))
    copy = imported(api, ended(store, CARL.id, 4))

    with acting_as(ANN):
        with pytest.raises(LimitError, match="at most 5 runs of all visitors, and 4 are there"):
            api.runs.start(THREE_RUNS)
        assert {trained, queued, copy} == sweeps_here(api)
        mine = api.runs.start(TWO_RUNS)
    assert {trained, queued, mine} == sweeps_here(api)


def test_where_the_runs_folder_is_over_its_size_what_was_not_trained_makes_room_with_its_data(shared, uploaded):
    shared(disk_mb=2, files_mb_per_visitor=9)
    api, trained = shared(), None
    with acting_as(BEN):
        api.runs.cancel(api.runs.start(replace(LOW, data=uploaded(api, BEN, 3000))))
        trained = ended(api.workspace.store, BEN.id, 4)
    api = shared()  # looks at the size of the folder anew

    with acting_as(ANN):
        mine = api.runs.start(LOW)

    assert {trained, mine} == sweeps_here(api)
    assert [] == kept_data(api)


def sweep_of(api, visitor, days):
    """A sweep of two runs that ended so many days ago; its id."""
    with acting_as(visitor):
        sweep_id = finished(api, {4: 2.0, 8: 1.9}).sweep_id
    return aged(api, sweep_id, days * DAY)


def test_what_a_visitor_and_the_admin_have_goes_after_some_days_and_the_hosts_own_stays(api):
    old = [sweep_of(api, visitor, 31) for visitor in (ANN, ADMIN)]
    young, hosts = sweep_of(api, ANN, 29), sweep_of(api, HOST, 31)

    remove_old(api.workspace, time.time())

    assert {young, hosts} == sweeps_here(api)
    assert not any(name.startswith(tuple(old)) for name in os.listdir(api.workspace.store.runs_dir))


def test_result_files_of_visitors_and_remembered_models_go_too_and_the_hosts_files_stay(api):
    home, now = api.workspace.home, time.time()
    anns, models = home_of(home, ANN.id) / "evidence", home / "introspected"
    for folder in (anns, models, home / "evidence"):
        folder.mkdir(parents=True)
        for days in (29, 31):
            (folder / f"{days}.json").write_text("{}")
            os.utime(folder / f"{days}.json", (now - days * DAY,) * 2)

    remove_old(api.workspace, now)

    assert [["29.json"], ["29.json"], ["29.json", "31.json"]] == [
        sorted(os.listdir(folder)) for folder in (anns, models, home / "evidence")
    ]


def test_what_waits_or_runs_stays_however_old_it_is(api):
    sweep_id = aged(api, api.workspace.store.create(questions.sweep(ranks=(4, 8), max_steps=2), ANN.id), 300 * DAY)
    first, _ = api.workspace.store.run_ids(sweep_id)
    api.workspace.store.append(first, RunCancelled(time=1.0))
    aged(api, sweep_id, 300 * DAY)

    remove_old(api.workspace, time.time())

    assert 2 == len(api.workspace.store.run_ids(sweep_id))


def test_a_clock_that_jumps_ahead_removes_nothing(api, monkeypatch):
    sweep_id = sweep_of(api, ANN, 1)
    now, true_time = steady_clock(), time.time
    monkeypatch.setattr(retention.time, "time", lambda: true_time() + 5000 * DAY)

    remove_old(api.workspace, now())
    assert {sweep_id} == sweeps_here(api)

    monkeypatch.setattr(retention.time, "time", lambda: true_time() - 5000 * DAY)
    assert true_time() - 4999 * DAY > now()


MB = 10**6
HOUR = 3600
"""In seconds."""


@pytest.fixture
def page(shared, tmp_path, monkeypatch):
    """Makes a shared page that keeps bases below its runs folder, with limits."""
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.delenv("HF_HUB_CACHE")

    def make(**limits):
        api = shared(**limits)
        reach.use_own(api.workspace.home)
        return api

    return make


def test_bases_that_nobody_waits_for_make_room_and_those_of_queued_runs_stay(page, tmp_path):
    api, hub = page(disk_mb=8), tmp_path / "home" / "hub"
    put(hub, "HuggingFaceTB/SmolLM2-360M", 3 * MB, age=4 * HOUR)
    put(hub, "someone/old", 3 * MB, age=2 * HOUR)
    put(hub, "someone/older", 3 * MB, age=3 * HOUR)
    api.workspace.store.create(questions.sweep(base="smollm2-360m", ranks=(1,)), BEN.id)

    with acting_as(ANN):
        api.runs.start(LOW)

    assert ["HuggingFaceTB/SmolLM2-360M", "someone/old"] == repositories(hub)


def test_what_is_refused_makes_no_room(page, tmp_path, uploaded):
    api, hub = page(disk_mb=2, files_mb_per_visitor=1), tmp_path / "home" / "hub"
    put(hub, "someone/old", 3 * MB, age=2 * HOUR)
    copy = imported(api, ended(api.workspace.store, BEN.id, 4))

    def is_all_here():
        return ["someone/old"] == repositories(hub) and copy in sweeps_here(api)

    with acting_as(ANN):
        junk = uploaded(api, ANN, 1)
        with pytest.raises(InvalidSettingError, match="cannot be read as a RankViz export"):
            api.runs.import_(junk)
        assert is_all_here()
        with pytest.raises(LimitError, match="at most 1 MB of a visitor's files"):
            api.runs.start(replace(LOW, data=uploaded(api, ANN, 2000)))
        assert is_all_here()

    trained = ended(api.workspace.store, BEN.id, 8)
    (api.workspace.store.run_dir(api.workspace.store.run_ids(trained)[0]) / "adapter.bin").write_bytes(b"x" * 3 * MB)
    with acting_as(ANN), pytest.raises(LimitError, match="more than the 2 MB that it allows"):
        api.runs.start(LOW)
    assert is_all_here()


def test_an_import_makes_room_once_it_is_there(page, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api, hub = page(disk_mb=2), tmp_path / "home" / "hub"
    exported = upload_of(ended(api.workspace.store, BEN.id, 4), api, tmp_path)
    copy = imported(api, ended(api.workspace.store, BEN.id, 8))
    put(hub, "someone/old", 3 * MB, age=2 * HOUR)

    with acting_as(ANN):
        (run_id,) = api.runs.import_(exported)

    assert ([], {copy, api.workspace.store.record(run_id).request.sweep_id}) == (repositories(hub), sweeps_here(api))


def test_where_the_disk_has_little_room_bases_go_by_themselves(page, tmp_path, monkeypatch):
    api, hub = page(), tmp_path / "home" / "hub"
    put(hub, "someone/old", 1000, age=2 * HOUR)
    put(hub, "someone/new", 1000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "rankviz.shared.quota.shutil.disk_usage",
        lambda folder: usage._replace(free=10**9 if len(repositories(hub)) == 2 else 10**12),
    )

    api.runs.quota.make_room_on_disk()

    assert ["someone/new"] == repositories(hub)


def test_on_ones_own_machine_no_base_ever_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_MAX_DISK_MB", "3")
    home = tmp_path / "home"
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    put(home / "hub", "someone/old", 3 * MB, age=2 * HOUR)
    api = Api(home=home, shared=False)

    with pytest.raises(LimitError):
        api.runs.start(LOW)

    assert ["someone/old"] == repositories(home / "hub")
