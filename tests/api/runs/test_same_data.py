"""A sweep goes on with the data that it was trained on, and with no other file of that name."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import RunCancelled, RunStarted
from rankviz.errors import BadDataError
from rankviz.store import export_runs
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events, import_runs

ROWS, OTHERS = (f'{{"prompt": "q", "completion": "{text}"}}\n' * 40 for text in ("mine", "another's"))
FINGERPRINT = hashlib.sha256(ROWS.encode()).hexdigest()[:16]
GONE = "not find the file 'mine.jsonl' that this sweep was trained on, so its data must be given again"


@pytest.fixture
def api(tmp_path, monkeypatch):
    """An own machine, in whose current folder there is nothing yet."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Api(home=tmp_path / "home", shared=False)


@pytest.fixture
def imported(api, tmp_path):
    """imported(data, fingerprint): the id of a finished sweep that came from a zip."""

    def bring(data="mine.jsonl", fingerprint=FINGERPRINT, ended=True):
        elsewhere = Api(home=tmp_path / "elsewhere", shared=False).workspace.store
        sweep_id = elsewhere.create(questions.sweep(ranks=(4, 64), max_steps=2, data=data))
        for run in elsewhere.sweep(sweep_id).runs:
            for event in finished_events(run.request, 2.0) if ended else [RunCancelled(time=1.0)]:
                if isinstance(event, RunStarted):
                    event = replace(event, environment={**event.environment, "data_fingerprint": fingerprint})
                elsewhere.append(run.run_id, event)
        import_runs(api.workspace.store, export_runs([elsewhere], [sweep_id], tmp_path / "runs.zip"))
        return sweep_id

    return bring


def added(api, sweep_id):
    """What one more run of it would be trained on."""
    request = api.runs.added_request(sweep_id, 16)
    api.runs.check_runs_can_start([request])
    return request.data


@pytest.mark.parametrize("text", [None, OTHERS])
def test_another_file_of_that_name_in_the_current_folder_is_not_taken(api, imported, tmp_path, text):
    if text:
        (tmp_path / "here" / "mine.jsonl").write_text(text)

    with pytest.raises(BadDataError, match=GONE):
        added(api, imported())


def test_a_file_by_its_whole_path_is_compared_too(api, imported, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(ROWS)
    sweep_id = imported(str(path))
    assert str(path) == added(api, sweep_id)

    path.write_text(OTHERS)

    with pytest.raises(BadDataError, match=GONE):
        added(api, sweep_id)


@pytest.fixture
def cancelled(api, tmp_path):
    """A sweep of this machine whose file is not in its place any more, nor its copy; returns its id."""
    file = tmp_path / "mine.jsonl"
    file.write_text(ROWS)
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4,), max_steps=2), data=file)
    for run in store.sweep(sweep_id).runs:
        store.append(run.run_id, RunCancelled(time=1.0))
    file.unlink()
    Path(run.request.data).unlink()
    return sweep_id


def named(api, sweep_id):
    """The file that its first run names."""
    return Path(api.workspace.store.sweep(sweep_id).runs[0].request.data)


@pytest.mark.parametrize("there", [None, OTHERS])
def test_a_sweep_whose_copy_has_gone_or_was_changed_does_not_go_on_by_another_file(api, cancelled, there):
    if there:
        named(api, cancelled).write_text(there)
    with pytest.raises(BadDataError, match=GONE):
        added(api, cancelled)
    with pytest.raises(BadDataError, match=GONE):
        api.runs.resume(cancelled)
