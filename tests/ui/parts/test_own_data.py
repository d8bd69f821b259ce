"""The part "Your data" of the question, and what it makes of time and cost."""

import json

from rankviz.api import Api
from rankviz.ui.parts import question
from rankviz.ui.parts.question import DEFAULTS, ask
from tests.support.runs.finished_runs import text_of

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
