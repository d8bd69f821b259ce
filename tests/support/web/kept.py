"""What visitors have on a shared page."""

import os
import time

from rankviz.store.runs import IMPORTED
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.runs.finished_runs import come, finished_events
from tests.support.web.visitors import ANN, BEN


def ended(store, owner, *ranks):
    """A sweep whose runs have ended; its id."""
    request = questions.sweep(ranks=ranks, max_steps=2)
    return come(store, request, owner, lambda run: finished_events(run, 2.0)).sweep_id


def upload_of(sweep_id, api, folder):
    """BEN's sweep in a zip file that ANN uploaded. It is not here any more."""
    with acting_as(BEN):
        exported = api.runs.export([sweep_id], folder / "out.zip")
        api.runs.delete(sweep_id)
    api.workspace.temp.own(exported, ANN.id)
    return exported


def kept_data(api):
    return sorted(path.name for path in api.workspace.home.rglob("*") if path.is_file() and "data" in path.parts)


def imported(api, sweep_id):
    """The same sweep as if it had come in a zip."""
    for run_id in api.workspace.store.run_ids(sweep_id):
        (api.workspace.store.run_dir(run_id) / IMPORTED).touch()
    return sweep_id


def aged(api, sweep_id, seconds):
    """The same sweep, of which nothing was written for so long."""
    for run_id in api.workspace.store.run_ids(sweep_id):
        for path in api.workspace.store.run_dir(run_id).iterdir():
            os.utime(path, (time.time() - seconds,) * 2)
    return sweep_id


def sweeps_here(api):
    """The ids of the sweeps and probes of all visitors."""
    return {record.request.sweep_id for record in api.workspace.store.records()}


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
