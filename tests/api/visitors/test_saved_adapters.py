"""Adapters that runs have saved or will save: what one visitor may have of them, and what all together."""

import pytest

from rankviz.core.runs.events import RunCancelled, RunFailed
from rankviz.errors import LimitError
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.web.kept import ended
from tests.support.web.visitors import ADMIN, ANN, BEN, CARL

MB = 10**6
R4 = questions.sweep(ranks=(4,), max_steps=2)
"""Whose adapter takes 4.9 MB."""
PER_VISITOR = "keeps at most 8 MB of the adapters of a visitor's runs"


def saved(api, sweep_id, size, name="adapter"):
    """The same sweep, each run with an adapter of this size."""
    for run_id in api.workspace.store.run_ids(sweep_id):
        folder = api.workspace.store.run_dir(run_id) / name
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"x" * size)
    return sweep_id


def test_what_queued_runs_will_save_counts_for_who_queues_them(shared):
    api = shared(adapters_mb_per_visitor=8)
    with acting_as(ANN):
        first = api.runs.start(R4)
        with pytest.raises(LimitError) as refusal:
            api.runs.start(R4)
        assert f"{PER_VISITOR}, those that queued runs will save included (yours take 4.9 MB" in str(refusal.value)
        assert "and this adds 4.9 MB). Delete some of your runs" in str(refusal.value)
        with pytest.raises(LimitError, match=PER_VISITOR):
            api.runs.add(first, 8)
    with acting_as(BEN):
        api.runs.start(R4)
    with acting_as(ANN):
        api.runs.cancel(first)
        api.runs.start(R4)


def test_a_run_that_is_resumed_counts_once(shared):
    api = shared(adapters_mb_per_visitor=8)
    store = api.workspace.store
    with acting_as(ANN):
        first = saved(api, api.runs.start(R4), 4 * MB)
        store.append(f"{first}-001-r4", RunCancelled(time=1.0))
        api.runs.resume(first)
        store.append(f"{first}-001-r4", RunCancelled(time=1.0))
        other = api.runs.start(R4)
        with pytest.raises(LimitError, match=PER_VISITOR):
            api.runs.resume(first)
        store.append(f"{other}-001-r4", RunFailed(time=1.0, error="lost"))
        api.runs.resume(first)


def test_the_disk_of_all_has_room_for_what_queued_runs_will_save(shared):
    api = shared(disk_mb=12)
    for visitor in (ANN, BEN):
        with acting_as(visitor):
            api.runs.start(R4)

    for visitor in (CARL, ADMIN):
        with acting_as(visitor), pytest.raises(LimitError) as refusal:
            api.runs.start(R4)
        assert "with what queued runs will save" in str(refusal.value)
        assert "more than the 12 MB that it allows. Delete runs of yours, or try again later." in str(refusal.value)


def test_what_others_have_queued_keeps_nobody_out_who_has_none_queued_and_wants_no_more_than_a_share(shared):
    api = shared(disk_mb=12, first_sweeps=2, sweeps=9)
    for visitor in (ANN, BEN):
        with acting_as(visitor):
            api.runs.start(R4)

    with acting_as(CARL):
        with pytest.raises(LimitError, match="with what queued runs will save"):
            api.runs.start(questions.sweep(ranks=(4, 5), max_steps=2))
        api.runs.start(R4)
        with pytest.raises(LimitError, match="with what queued runs will save"):
            api.runs.start(R4)


def test_adapters_that_are_kept_count_until_their_runs_are_deleted(shared):
    api = shared(adapters_mb_per_visitor=8)
    sweep_id = saved(api, saved(api, ended(api.workspace.store, ANN.id, 4), 2 * MB), 2 * MB, "cuts/r2")

    with acting_as(ANN):
        with pytest.raises(LimitError, match=r"yours take 4\.0 MB"):
            api.runs.start(R4)
        api.runs.delete(sweep_id)
        api.runs.start(R4)
