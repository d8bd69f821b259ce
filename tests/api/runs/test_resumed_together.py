"""A sweep that is resumed is taken up whole: a job of some of its runs would load the base, or rent a machine, again
for the rest."""

import time
from contextlib import contextmanager

from rankviz.core.runs.events import RunCancelled
from rankviz.store import RunStore
from rankviz.store.ownership import WantedEngine
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.runs import questions


def test_whoever_reads_the_queue_finds_all_runs_that_are_resumed_or_none(tmp_path, monkeypatch):
    api, _ = page_with_elsewhere(tmp_path)
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(base="embedded", ranks=(2, 4, 8)), destination=WantedEngine("elsewhere"))
    run_ids = store.run_ids(sweep_id)
    for run_id in run_ids:
        assert store.begin(run_id)
        store.append(run_id, RunCancelled(time=time.time()))
    reader, publishing, found = RunStore(store.home), store.publishing, []

    @contextmanager
    def and_then_somebody_reads():
        with publishing():
            yield
        found.append([record.run_id for record in reader.unended()])

    monkeypatch.setattr(store, "publishing", and_then_somebody_reads)
    monkeypatch.setattr(api.workspace, "work_queue", lambda: None)

    assert run_ids == list(api.moves.resume(sweep_id))

    assert [run_ids] == found
