"""What stands in the way of a training is said before anything is queued; and a data file in numbers."""

import json
from dataclasses import replace

import pytest

from rankviz.api.machine import Machine
from rankviz.core.preflight import Card, Driver, HubAnswer, Software
from rankviz.errors import InvalidSettingError
from tests.support.runs import questions

TOO_OLD = Driver(
    version="535.183",
    cuda=(12, 2),
    cards=(Card(index=0, name="NVIDIA L4", uuid="", memory_bytes=24 * 2**30, used_bytes=0, capability=(8, 9)),),
)


class OnAnOldDriver(Machine):
    def facts(self, **options):
        software = Software(torch="2.14.1", torch_cuda=(13, 0), compiler="cc", has_headers=True)
        software = replace(software, bitsandbytes="0.50.2", bitsandbytes_cuda=((13, 0),))
        return replace(super().facts(**options), driver=TOO_OLD, card=TOO_OLD.cards[0], software=software)


@pytest.fixture
def old(api):
    api.__dict__["machine"] = OnAnOldDriver(api)
    return api


def test_a_sweep_that_cannot_run_here_is_refused_before_it_is_queued(old):
    with pytest.raises(InvalidSettingError, match=r"^This driver is too old for this torch: Driver 535\.183"):
        old.runs.start(questions.sweep())

    assert [] == list(old.runs.sweeps())


class PlayedHub:
    """Answers as the door to the Hub."""

    questions = 0

    def reached(self):
        self.questions += 1
        return HubAnswer(endpoint="hub", reached=False, reason="x")


def test_only_a_base_that_must_be_fetched_asks_the_hub(api, monkeypatch, tmp_path):
    from rankviz.hub import reach

    api.workspace.hub = PlayedHub()
    monkeypatch.setattr(reach, "has_weights", lambda repo_id: repo_id == "Qwen/Qwen3-0.6B")
    training = questions.sweep().training

    for base in ("", "embedded", str(tmp_path), "Qwen/Qwen3-0.6B"):
        assert [] == list(api.machine.warnings(training, base))
    assert 0 == api.workspace.hub.questions
    (warning,) = api.machine.warnings(training, "Qwen/Qwen3-4B")

    assert warning.startswith("The Hugging Face Hub does not answer (hub: x).")


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_examples_mean_and_longest_are_measured_from_characters(api, tmp_path):
    # "abcd" is 4 · 0.25 = 1 token; the template writes 5 around each of the two messages, and 4 once, at most 100.
    rows = [chat("abcd", "abcd"), chat("abcd", "abcd" * 5)]

    held = api.data.measure(written(tmp_path / "chats.jsonl", rows))

    assert ("chats.jsonl", "messages", 2) == (held.title, held.training.form, held.training.examples)
    assert ("user: abcd", "abcd" * 5) == held.first[1]
    assert ((14 + 30) / 2, 30) == (held.mean_characters, held.longest_characters)
    assert pytest.approx(4 + 10 + (2 + 6) / 2) == held.mean_tokens.expected
    assert round(100 + 2 * 8 + 1.6 * 6) == held.training.longest_tokens
    assert held.in_words == (
        "chats.jsonl: 2 examples (messages), about 18 tokens each (9 to 122, by their characters), the longest up to "
        "126."
    )


def test_an_estimate_takes_the_expected_mean_and_the_upper_end_of_the_longest(api, tmp_path):
    rows = [chat("abcd", "abcd"), chat("abcd", "abcd" * 5)]

    data = api.data.measure(written(tmp_path / "chats.jsonl", rows)).training

    assert (2, 18, 126, True) == (data.examples, data.mean_tokens, data.longest_tokens, data.longest_is_upper)
