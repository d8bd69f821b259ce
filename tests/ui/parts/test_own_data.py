"""The part "Your data" of the question, and what it makes of time and cost."""

import json

import pytest

from rankviz.api import Api
from rankviz.core.cost.data import TrainingData
from rankviz.errors import InvalidSettingError
from rankviz.ui.parts import own_data
from rankviz.ui.parts.question import DEFAULTS, ask

CHATS = {**DEFAULTS, "examples": 5000, "example_tokens": 400, "longest_tokens": 1600}


def note(**values):
    return own_data.length_note(ask({**DEFAULTS, **values}))


def test_typed_data_are_the_data_of_the_training():
    training = ask({**CHATS, "epochs": 3}).training

    assert TrainingData(examples=5000, mean_tokens=400, longest_tokens=1600, epochs=3) == training.data
    assert 1875 == training.total_steps


def test_empty_boxes_are_no_data_and_the_assumed_length_is_said():
    assert ask(DEFAULTS).training.data is None
    assert 1000 == ask(DEFAULTS).training.total_steps
    assert "No data given: time and cost assume 1,000 steps of 8 examples with 2,048 tokens each." in note()


def test_the_length_of_given_data_is_in_epochs_unless_steps_or_tokens_are_set():
    assert 625 == ask(CHATS).training.total_steps
    assert "Time and cost are for 5,000 examples × 1 epoch: 625 steps of 8 examples." in note(**CHATS)
    assert "× 3 epochs: 1,875 steps" in note(**{**CHATS, "epochs": 3})
    set_by_hand = {**CHATS, "epochs": 3, "length": 60}
    assert 60 == ask(set_by_hand).training.total_steps
    assert "Time and cost are for 60 steps of 8 examples." in note(**set_by_hand)


def test_a_file_sets_all_boxes_and_clears_steps(tmp_path):
    rows = [{"prompt": "abcd", "completion": "abcd"}] * 3
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    shown = own_data.measured(Api(home=tmp_path / "home"), file=str(path), epochs=2)

    # 2 · 4 · 0.25 = 2 tokens, up to 1.6 times as many
    assert (3, 2, 3, 2, None) == (
        shown.examples,
        shown.example_tokens,
        shown.longest_tokens,
        shown.epochs,
        shown.length,
    )
    assert "rows.jsonl: 3 examples (prompt-completion)" in shown.file_note


def test_a_files_name_is_escaped(tmp_path):
    path = tmp_path / "<b>.jsonl"
    path.write_text('{"text": "abcd"}\n' * 2)

    assert "&lt;b&gt;.jsonl" in own_data.measured(Api(home=tmp_path / "home"), file=str(path)).file_note


@pytest.mark.parametrize("values", [{"batch": 0}, {"epochs": -1}, {"examples": 0}, {"longest_tokens": 5}])
def test_impossible_values_are_refused_by_the_core(values):
    with pytest.raises(InvalidSettingError):
        ask({**CHATS, **values}).validate()
