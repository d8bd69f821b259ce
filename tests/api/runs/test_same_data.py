"""A sweep goes on with the data it was trained on; quick looks, forecasts from runs, and what may be added to them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.forecast.quick_look import measured_cells
from rankviz.core.runs.events import RunCancelled, RunStarted
from rankviz.core.runs.request import quick_look
from rankviz.errors import BadDataError, InvalidSettingError, RunNotFoundError
from rankviz.store import export_runs
from rankviz.verdict import headline
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, finished_events, import_runs, plain_sweep

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
        import_runs(api.workspace.store, export_runs([elsewhere], elsewhere.run_ids(sweep_id), tmp_path / "runs.zip"))
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


def test_one_repeat_gives_the_band_and_leaves_the_verdict_to_sweeps_with_repeats_of_every_rank(api):
    sweep_id = api.workspace.store.create(quick_look(questions.sweep(max_steps=2)))
    for run, loss in zip(api.workspace.store.sweep(sweep_id).runs, (2.0, 1.5, 2.01), strict=True):
        for event in finished_events(run.request, loss - 0.1 * run.request.seed):
            api.workspace.store.append(run.run_id, event)

    decision = api.verdicts.decide(sweep_id)

    assert (None, 64, 64) == (decision.settled, decision.forecast.repeat_at, decision.train.r)
    assert decision.forecast.noise_nats == pytest.approx(0.01 / 2**0.5)
    words = "Best rank so far: r = 64; r = 4 and r = 64 differ by "
    assert headline(api.verdicts.of_sweep(sweep_id), decision).startswith(words)
    assert all(rank.low_80 < rank.median < rank.high_80 for rank in decision.forecast.ranks)


def test_a_recorded_sweep_and_one_that_is_not_there_take_no_more_runs(api):
    with pytest.raises(InvalidSettingError, match="Train one of your own"):
        api.runs.add(api.runs.recorded()[0].sweep_id, 24)
    with pytest.raises(RunNotFoundError):
        api.runs.add("nothing", 16)


def test_an_added_run_takes_the_rate_of_the_best_run_at_the_highest_rank(api):
    asked = questions.sweep(ranks=(4, 64), learning_rates=(1e-2, 1e-3, 3e-4), max_steps=2)
    sweep_id = api.workspace.store.create(asked)
    losses = {1e-2: float("nan"), 1e-3: 1.8, 3e-4: 1.9}
    for run in api.workspace.store.sweep(sweep_id).runs:
        low = 0.5 if run.request.r == 4 and run.request.learning_rate == 3e-4 else 0
        for event in finished_events(run.request, losses[run.request.learning_rate] - low):
            api.workspace.store.append(run.run_id, event)

    assert 1e-3 == api.runs.added_request(sweep_id, 16).learning_rate


def test_a_sweep_of_another_base_is_refused_with_the_model_that_fits(api):
    sweep = finished(api, {4: 1.4, 64: 1.0})

    with pytest.raises(InvalidSettingError) as refused:
        api.studies.forecasts("Qwen/Qwen3-4B", runs=sweep.sweep_id)

    assert "trained embedded, not Qwen/Qwen3-4B" in str(refused.value)
    assert "give the model embedded, or leave the sweep out" in str(refused.value)


def changed(runs, **more):
    return tuple(replace(run, request=replace(run.request, **more)) for run in runs)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"learning_rate": 0.02}, "no learning rate in common"), ({"data": "pairs"}, "different base models or data")],
)
def test_runs_that_cannot_be_compared_are_refused(more, message):
    low, high = plain_sweep({4: 1.4, 64: 1.0}).runs

    with pytest.raises(InvalidSettingError, match=message):
        measured_cells((low, *changed([high], **more)))
