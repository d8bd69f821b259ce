"""The operations: what they check and refuse, what is made in the background, and a folder that cannot be written."""

import time
from functools import partial
from threading import Event

import pytest

from rankviz.api import Api
from rankviz.background import Background
from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.advice.words import main_sentences, reasons
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.fit import fit_in_words
from rankviz.core.lora.config import LoraConfig
from rankviz.core.runs.events import RunStarted, StageReached
from rankviz.errors import BadDataError, InvalidSettingError, LimitError
from rankviz.machine import disk
from rankviz.visitor import acting_as, current
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.processes.workers import wait_for
from tests.support.runs import questions
from tests.support.web.visitors import ANN


def test_another_name_of_a_model_gives_the_same_numbers_where_unsloth_loads_the_same_kind_of_checkpoint(api):
    ours, theirs, plain = (
        api.estimates.estimate(Question(model_id=name, ranks=(16,))).estimate.ranks
        for name in (
            "meta-llama/Llama-3.1-8B",
            "unsloth/Meta-Llama-3.1-8B-unsloth-bnb-4bit",
            "unsloth/Meta-Llama-3.1-8B-bnb-4bit",
        )
    )

    assert 41_943_040 == theirs[0].adapter_parameters == plain[0].adapter_parameters
    assert ours == theirs
    # an eighth of the linear layers in NF4: 4 bits, a byte for each 64 weights and 4 bytes for each 64 · 256
    linear = 32 * (2 * 4096 * (4096 + 1024) + 3 * 4096 * 14336) * (1 / 2 + 1 / 64 + 4 / (64 * 256))
    assert linear / 8 == ours[0].memory.base_weights - plain[0].memory.base_weights


@pytest.mark.parametrize(
    ("rows", "settings", "error", "words"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n', {}, BadDataError, "Row 2"),
        ('{"text": "a"}\n{"text": "b"}\n', {"exact_match_examples": 2}, BadDataError,
         r"Exact match needs prompts, and no row of mine\.jsonl has one"),
        ("", {"target_modules": ("c_attn",)}, InvalidSettingError, "q_proj"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_anything_is_queued(api, tmp_path, rows, settings, error, words):
    data = tmp_path / "mine.jsonl"
    data.write_text(rows)

    with pytest.raises(error, match=words):
        api.runs.start(questions.sweep(**settings, **{"data": str(data)} if rows else {}))

    assert [] == list(api.runs.sweeps())


@pytest.mark.parametrize("r", [-4, 0, 5000])
def test_every_operation_on_one_rank_checks_it(api, r):
    asking = questions.question("Qwen/Qwen3-4B", gpu="L4")

    for operation in (api.advice.export, api.estimates.fit):
        with pytest.raises(InvalidSettingError, match="Rank must be a whole number from 1 to 1,024"):
            operation(asking, r)


@pytest.mark.parametrize(
    ("model_id", "gpu", "framework", "settings"),
    [
        ("openai/gpt-oss-20b", "A100-80GB", "trl", 23),  # eager, whatever is asked
        ("meta-llama/Llama-3.1-8B", "T4", "trl", 23),  # the math kernel
        ("meta-llama/Llama-3.1-8B", "L4", "trl", 69),
        ("google/gemma-2-9b", "L4", "unsloth", None),
    ],
)
def test_an_estimate_rests_on_rows_whose_attention_holds_the_matrix_as_its_own(model_id, gpu, framework, settings):
    training = TrainingSetup(framework=framework, gradient_checkpointing="auto")
    question = Question(model_id=model_id, gpu=gpu, training=training, ranks=(16,))
    answer = Api().estimates.estimate(question)

    assert settings == (answer.basis.memory and answer.basis.memory.settings)


def test_the_chart_is_in_points_like_the_recommendation_unless_the_model_has_runs(api):
    assert "score" == api.studies.tradeoff(Question(model_id="Qwen/Qwen3-8B")).quality
    assert "percent" == api.studies.tradeoff(Question(model_id="embedded")).quality


def test_a_question_that_takes_long_is_answered_later_and_the_next_of_its_line_after_it():
    background, go, worked = Background(soon_seconds=0.05), Event(), []

    def work(name):
        worked.append(name)
        go.wait(600)
        return name

    def ask(name):
        return background.ask("line", name, partial(work, name))

    assert ask("first") is None
    wait_for(lambda: worked)
    assert [None] * 2 == [ask(name) for name in ("first", "second")]
    background.soon_seconds = 60
    assert "other" == background.ask("another line", "other", lambda: "other").result()
    go.set()

    assert "second" == ask("second").result()
    assert ["first", "second"] == worked


def test_an_error_is_an_answer_and_the_question_is_asked_as_its_visitor():
    def refuse():
        raise LimitError(current().id)

    with acting_as(ANN):
        answer = Background(soon_seconds=120).ask("line", "question", refuse)

    with pytest.raises(LimitError, match=ANN.id):
        answer.result()


def test_a_run_with_no_room_to_say_how_it_ended_is_explained_cancelled_and_deleted():
    with small_disk(8) as folder:
        api = Api(home=folder / "home", shared=False)
        api.workspace.work_queue = lambda: None
        store, supervisor = api.workspace.store, api.workspace.supervisor
        sweep_id = store.create(questions.sweep(ranks=(4, 8), max_steps=2))
        running, queued = store.run_ids(sweep_id)
        assert store.begin(running)
        (store.run_dir(running) / "worker.log").write_bytes(b"x" * 3_000_000)
        store.append(running, RunStarted(time=time.time(), environment={}))
        fill(folder)
        with pytest.raises(OSError, match=r"not written whole|No space"):
            for _ in range(1000):
                store.append(running, StageReached(time=time.time(), stage="saving the adapter"))

        sentence = api.runs.progress(api.runs.sweep(sweep_id)).sentence
        assert f"Run 1 of 2: saving the adapter. {disk.FULL_SENTENCE}" == sentence

        assert [running, queued] == list(api.runs.cancel(sweep_id))
        assert {running, queued} == supervisor.unwritten.keys()
        assert [running, queued] == list(api.runs.delete(sweep_id))
        assert ([], "") == (store.all(), api.workspace.why_not_write())
        supervisor.tick()
        assert {} == supervisor.unwritten
        supervisor.stop()


PLAIN = TrainingSetup(framework="trl", gradient_checkpointing="hf")
"""Every model of the catalogue takes it."""
RANKS = {"simple": 16, "instruction": 32, "complex": 64, "near-full": 64, "pretraining": 64, "rl": 16}


@pytest.mark.parametrize("use_case", NAMES)
def test_every_model_gets_the_rank_of_the_use_case_and_a_rate_in_the_range_of_its_sentence(api, use_case):
    for row in [*api.models.all()][::6]:
        advice = api.advice.advise(Question(model_id=row.id, training=PLAIN), Goal(use_case=use_case)).advice

        assert RANKS[use_case] == advice.r, row.id
        assert advice.rates is None or advice.rates.low <= advice.learning_rate <= advice.rates.high, row.id
        assert 3 == len(main_sentences(advice)), row.id
        assert all(reason.source for reason in reasons(advice)), row.id


def test_a_recommendation_keeps_modules_to_save_and_quotes_no_time_of_one_step(api):
    lora = LoraConfig(modules_to_save=("embed_tokens", "lm_head"))
    start = api.advice.advise(Question(model_id="Qwen/Qwen3-8B", gpu="t4", lora=lora), Goal()).setting

    assert start.question.lora.modules_to_save and "does not fit" in fit_in_words(start)
    assert "helps most (420 MiB less)" in fit_in_words(start)


def test_a_study_of_the_same_moe_scheme_is_not_converted(api):
    """Scicom's experts of gpt-oss-20b have r / active."""

    def scicom(expert_rank: str) -> str:
        question = Question(model_id="openai/gpt-oss-20b", lora=LoraConfig(expert_rank=expert_rank))
        (text,) = [each.text for each in reasons(api.advice.advise(question, Goal()).advice) if "Scicom" in each.text]
        return text

    assert "another MoE scheme" in scicom("r") and "By parameters, r = 32 here is r = 113 in that" in scicom("r")
    assert "another MoE scheme" not in scicom("r/active") and "By parameters" not in scicom("r/active")
