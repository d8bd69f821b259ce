"""The question and its data, where a sweep is, charts, and what buttons that queue more runs say."""

import json
import re
from types import SimpleNamespace

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AttemptPlaced, RunCompleted, RunFailed, RunStarted
from rankviz.errors import InvalidSettingError
from rankviz.store.journal import WantedEngine
from rankviz.ui.parts import question
from rankviz.ui.parts.question import DEFAULTS, ask, gpu_label
from rankviz.ui.parts.sweep import next_runs, standing_html
from rankviz.ui.parts.widgets import json_text
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events, text_of


def test_a_gpu_has_one_price_in_the_list_in_the_cost_and_in_the_table_of_gpus(api):
    cards = {card.gpu_id: card for card in api.estimates.fit(ask(DEFAULTS), DEFAULTS["r"]).cards}

    for gpu in api.workspace.gpus:
        cost = api.estimates.estimate(ask({**DEFAULTS, "gpu": gpu.id})).estimate.price
        in_list = re.search(r"\$([\d.]+)/h, (.+)", gpu_label(gpu))
        assert re.search(r" · (\d+ GB|MLX)\b", gpu_label(gpu))
        if cost is None:
            assert in_list is None and (gpu.is_mac or cards[gpu.id].usd_per_hour is None), gpu.id
        else:
            assert (f"{cost.usd_per_hour:.2f}", cost.provider) == in_list.groups(), gpu.id
            assert cost.usd_per_hour == cards[gpu.id].usd_per_hour, gpu.id


CHATS = {**DEFAULTS, "examples": 5000, "example_tokens": 400, "longest_tokens": 1600}


def note(**values):
    return question.length_note(ask({**DEFAULTS, **values}))


def test_the_length_of_given_data_is_in_epochs_unless_steps_or_tokens_are_set():
    assert 625 == ask(CHATS).training.total_steps
    assert "Time and cost are for 5,000 examples × 1 epoch: 625 steps of 8 examples." in note(**CHATS)
    assert "× 3 epochs: 1,875 steps" in note(**{**CHATS, "epochs": 3})
    set_by_hand = {**CHATS, "epochs": 3, "length": 60}
    ask(set_by_hand).validate()
    assert 60 == ask(set_by_hand).training.total_steps
    assert "Time and cost are for 60 steps of 8 examples." in note(**set_by_hand)


def test_examples_above_the_maximum_length_are_said_beside_the_data_with_how_many_of_them(tmp_path):
    """One in ten is 50 times as long: 100 characters, 25 tokens, against 5,000 characters, 1,250 tokens."""
    rows = [{"text": "abcd " * (1000 if n % 10 == 0 else 20)} for n in range(100)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = question.measured(Api(home=tmp_path / "home"), file=str(path))
    values = {**DEFAULTS, "max_length": 512} | {
        name: getattr(shown, name)
        for name in ("examples", "example_tokens", "longest_tokens", "epochs", "length", "measured_file")
    }

    note = text_of(question.length_note(ask(values)))

    assert "above the maximum length of 512 tokens are truncated, up to 10 % of the examples and " in note
    assert "truncated" not in question.length_note(ask({**values, "max_length": 4096}))
    path.write_text("")  # the file that is chosen next
    missed = question.measured(Api(home=tmp_path / "home"), file=str(path), measured_file=shown.measured_file)
    assert "rows.jsonl has no rows. Shown: rows.jsonl, as before." == text_of(missed.file_note)


THERE = WantedEngine("hf-jobs", {"flavor": "l4x1", "spend": "5"})


def test_a_rented_machine_has_a_price_of_the_whole_sweep(rented):
    store = rented.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(2,)), "", THERE)
    for event in (
        AttemptPlaced(time=1.0, attempt=1, engine="hf-jobs", where="l4x1"),
        RunStarted(time=1.0, environment={}, attempt=1),
        RunCompleted(time=91.0, attempt=1, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x"),
    ):
        store.append(store.run_ids(sweep_id)[0], event)
    sweep = rented.runs.sweep(sweep_id)
    engine = next(each for each in rented.workspace.supervisor.engines if each.name == "hf-jobs")
    engine.ledger.note(sweep.sweep_id, costs={"a-job": (0.4, 0.4)})

    words = "$0.40 of at most $5.00 on Hugging Face Jobs, 2 min in runs"
    assert text_of(standing_html(rented, sweep)).endswith(f" Ran on Hugging Face Jobs, l4x1. Cost so far: {words}.")


def test_a_number_that_is_none_is_null_in_what_a_browser_reads():
    text = json_text({"y": [1.5, float("nan"), float("inf")], "of": ({"z": -float("inf")},)})

    assert {"y": [1.5, None, None], "of": [{"z": None}]} == json.loads(text, parse_constant=lambda name: 1 / 0)


RENTED = WantedEngine("hf-jobs", {"flavor": "l4x1", "spend": "3"})
OFFERS_8 = SimpleNamespace(forecast=SimpleNamespace(repeat_at=8))


@pytest.fixture
def rented(rented):
    rented.engines.background.soon_seconds = 60.0
    return rented


@pytest.fixture
def finished(rented):
    """A sweep with a finished run there."""
    sweep_id = rented.workspace.store.create(questions.sweep(ranks=(4,), max_steps=2), "", RENTED)
    (run,) = rented.workspace.store.sweep(sweep_id).runs
    for event in finished_events(run.request, 2.0):
        rented.workspace.store.append(run.run_id, event)
    return rented.runs.sweep(sweep_id)


def test_on_a_rented_machine_it_says_what_its_job_costs(rented, finished):
    assert "a job of $0.0" in next_runs(rented, finished, OFFERS_8)["add"].value


def test_what_failed_goes_on_where_it_was_at_a_price_that_stands_on_the_button(rented, monkeypatch):
    sweep_id = rented.workspace.store.create(questions.sweep(ranks=(4,), max_steps=2), "", RENTED)
    (run,) = rented.runs.sweep(sweep_id).runs
    rented.workspace.store.append(run.run_id, RunFailed(time=9.0, error="no luck"))
    sweep = rented.runs.sweep(sweep_id)

    known = next_runs(rented, sweep, None)
    monkeypatch.setattr(rented.engines, "ask", lambda *question: None)
    asking = next_runs(rented, sweep, None)

    assert known["resume"].value.startswith("Train 1 failed or cancelled run again (a job of $0.0")
    assert (True, False) == (known["resume"].interactive, asking["resume"].interactive)
    assert (False, True) == (known["is_busy"], asking["is_busy"])


def test_where_too_little_is_left_it_is_there_and_says_so_when_it_is_pressed(rented, finished):
    engine = next(each for each in rented.workspace.supervisor.engines if each.name == "hf-jobs")
    engine.ledger.note(finished.sweep_id, costs={"a-job": (2.9, 2.9)})

    assert "$" not in next_runs(rented, finished, OFFERS_8)["add"].value
    with pytest.raises(InvalidSettingError, match="is used up"):
        rented.runs.add(finished.sweep_id, 8)
