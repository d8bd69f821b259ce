"""Where a sweep is and what it has cost so far, as the page says it."""

from rankviz.core.runs.events import AttemptPlaced, RunCompleted, RunStarted
from rankviz.jobs.hub import Cost
from rankviz.store.ownership import WantedEngine
from rankviz.ui.parts.sweep import standing_html
from tests.support.engines.hub_jobs import page_on
from tests.support.runs import questions
from tests.support.runs.finished_runs import text_of

THERE = WantedEngine("hf-jobs", {"flavor": "l4x1", "spend": "5"})


def test_a_rented_machine_has_a_price_of_the_whole_sweep(tmp_path, hub):
    with page_on(hub, tmp_path / "home") as api:
        store = api.workspace.store
        sweep_id = store.create(questions.sweep(ranks=(2,)), "", THERE)
        for event in (
            AttemptPlaced(time=1.0, attempt=1, engine="hf-jobs", where="l4x1"),
            RunStarted(time=1.0, environment={}, attempt=1),
            RunCompleted(time=91.0, attempt=1, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x"),
        ):
            store.append(store.run_ids(sweep_id)[0], event)
        sweep = api.runs.sweep(sweep_id)
        engine = next(each for each in api.workspace.supervisor.engines if each.name == "hf-jobs")
        engine.ledger.add(sweep.sweep_id, "a-job", Cost(0.4, 0.4))

        words = "$0.40 of at most $5.00 on Hugging Face Jobs, 2 min in runs"
        assert text_of(standing_html(api, sweep)).endswith(f" Ran on Hugging Face Jobs, l4x1. Cost so far: {words}.")
