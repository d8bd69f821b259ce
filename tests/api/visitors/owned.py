"""Sweeps that a visitor made."""

from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events


def sweep_of(api, owner, *ranks, ended=True, **settings):
    """The id of a sweep that this visitor made."""
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=ranks or (4,), max_steps=2, **settings), owner.id)
    for run in store.sweep(sweep_id).runs if ended else ():
        for event in finished_events(run.request, 2.0):
            store.append(run.run_id, event)
        adapter = store.run_dir(run.run_id) / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text("{}")
    return sweep_id


def first_run(api, sweep_id):
    return api.workspace.store.sweep(sweep_id).runs[0].run_id
