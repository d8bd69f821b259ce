"""The table of options, and what the environment of a server may say."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from docs.generate.commands import commands
from rankviz.core.advice.use_case import NAMES
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.runs.metric import METRICS
from rankviz.core.runs.request import MODE_RANKS, QUICK_RANKS, SHORT_TRAINING, SweepRequest, quick_look
from rankviz.endpoints.planning import METRIC
from rankviz.errors import InvalidSettingError
from rankviz.options import DATA, EVERY, OPTIONS, TRAIN_OPTIONS, data_of, lora_of, question_of, sweep_of
from rankviz.settings import PORT, SHARED_LIMITS, TUNABLE, Settings, port, read, read_limits, unread_variables
from rankviz.ui.link import DEFAULTS


def test_options_that_are_left_out_have_the_defaults_of_the_table():
    assert SweepRequest() == sweep_of({}) == sweep_of({name: each.default for name, each in TRAIN_OPTIONS.items()})
    every = {name: each.default for name, each in OPTIONS.items()} | {"model": "m"}
    assert Question(model_id="m", gpu="l4") == question_of({"model": "m"}) == question_of(every)


def test_the_default_gpu_is_one_and_choices_are_those_of_the_code():
    of_commands = {p.default for _, command in commands() for p in command.params if p.name == "gpu" and p.default}
    assert {"l4"} == {OPTIONS["gpu"].default, DEFAULTS["gpu"], *of_commands}
    assert NAMES == EVERY["use_case"].choices
    assert (tuple(METRICS), tuple(MODE_RANKS)) == (METRIC.choices, TRAIN_OPTIONS["mode"].choices)


def test_a_question_of_options():
    options = {
        "model": "m",
        "r": 8,
        "alpha": 16.0,
        "targets": "q_proj, v_proj",
        "dora": True,
        "modules_to_save": "lm_head",
        "batch": 3,
        "steps": 7,
        "examples": 5,
        "gpu": "",
    }

    expected = Question(
        model_id="m",
        ranks=(8,),
        lora_alpha="16.0",
        lora=LoraConfig(target_modules=("q_proj", "v_proj"), use_dora=True, modules_to_save=("lm_head",)),
        training=TrainingSetup(per_device_train_batch_size=3, max_steps=7, data=TrainingData(examples=5)),
    )
    assert expected == question_of(options)
    assert () == question_of({"model": "m", "ranks": []}).ranks


def test_given_numbers_come_before_those_of_a_measured_file():
    measured = TrainingData(examples=9, mean_tokens=100, longest_tokens=200, longest_is_upper=True, lengths=(1, 2))

    assert replace(measured, examples=5) == data_of({"examples": 5, "epochs": None}, measured)
    assert TrainingData(examples=9, mean_tokens=100, longest_tokens=150) == data_of({"longest_tokens": 150}, measured)
    assert data_of(dict.fromkeys(DATA)) is None


def test_a_sweep_of_options_in_each_mode():
    start = SweepRequest(lora=lora_of({"rslora": True}), training=replace(SHORT_TRAINING, max_steps=3), seeds=(0,))
    given = {"rslora": True, "steps": 3}

    assert replace(start, ranks=(8,), seeds=(0, 1, 2)) == sweep_of({**given, "ranks": [8]})
    small = replace(start, held_out_examples=32, training=replace(SHORT_TRAINING, max_steps=24))
    quick = {"rslora": True, "mode": "quick", "repeat": False}
    assert quick_look(small, QUICK_RANKS, repeat=False) == sweep_of(quick)
    fast = sweep_of({**given, "mode": "fast", "ranks": [2, 8], "independent": [4]})
    assert ((4, 8), (2, 4)) == (fast.ranks, fast.cut_ranks)
    assert (1e-3, 3e-3) == sweep_of({**given, "mode": "rate"}).learning_rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "slow"}, "mode must be one of"),
        ({"independent": [4]}, "Independent runs belong to a fast curve"),
        ({"mode": "quick", "seeds": 2}, "A quick look has one seed"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(InvalidSettingError, match=message):
        sweep_of(options)


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["COOKIE_KEY", "ADMIN_TOKEN", "ENGINE", "JOBS_IMAGE"])
def test_bytes_that_are_no_text_are_refused_by_the_name_of_the_variable(monkeypatch, name):
    monkeypatch.setenv(f"RANKVIZ_{name}", "abc\udcff")

    with pytest.raises(InvalidSettingError, match=f"RANKVIZ_{name} has bytes that are no text"):
        read()


@pytest.mark.parametrize("name", ["COOKIE_KEY", "ADMIN_TOKEN"])
@pytest.mark.parametrize("text", ["x", " " * 64, "fifteen letters", f"{'guessable':^64}", "\t\n"])
def test_a_secret_that_can_be_guessed_is_refused_without_being_shown(monkeypatch, name, text):
    monkeypatch.setenv(f"RANKVIZ_{name}", text)

    with pytest.raises(InvalidSettingError, match=f"^RANKVIZ_{name} cannot be so short: .* 16 letters") as refused:
        read()
    assert "guessable" not in str(refused.value) and "fifteen" not in str(refused.value)


def test_a_limit_is_a_number_or_none(monkeypatch):
    for text in ("many", "-1", "1.5", "9" * 30):
        monkeypatch.setenv("RANKVIZ_MAX_STEPS", text)
        with pytest.raises(
            InvalidSettingError, match=r"RANKVIZ_MAX_STEPS cannot be .*It holds: Optimizer steps of one"
        ):
            read_limits(shared=True)
    monkeypatch.setenv("RANKVIZ_MAX_STEPS", "7")
    monkeypatch.setenv("RANKVIZ_MAX_DAYS_KEPT", "")
    monkeypatch.setenv("RANKVIZ_MAX_SWEEPS", "4")
    monkeypatch.setenv("RANKVIZ_MAX_DISK_MB", "8")

    limits = read_limits(shared=True)

    assert (7, None, 4, 20) == (limits.steps, limits.days_kept, limits.sweeps, limits.first_sweeps)
    assert (8, 2, SHARED_LIMITS.rank) == (limits.disk_mb, limits.temp_mb, limits.rank)
    assert 30 == len(TUNABLE) + len(fields(Settings))


@pytest.mark.parametrize("text", ["-1", "0", "1e400", "nan", "many", "{}", "[1]", '{"GPU": 0}', "x" * 5000])
def test_whatever_a_variable_holds_is_taken_or_refused_with_what_it_should_hold(monkeypatch, text):
    for name in [*(each.name for each in fields(Settings)), *(f"max_{name}" for name in TUNABLE)]:
        name = f"RANKVIZ_{name}".upper()
        with monkeypatch.context() as set_to:
            set_to.setenv(name, text)
            try:
                read(), read_limits(shared=True)
            except InvalidSettingError as error:
                refused, _, about = str(error).partition(". It holds: ")
                assert refused.startswith(f"{name} cannot be ")
                assert len(refused) < 300
                assert about.strip(".")


def test_a_variable_of_an_older_version_is_named(monkeypatch):
    for name in ("RANKVIZ_MAX_RANK", "RANKVIZ_MAX_STEPS", "RANKVIZ_SHARED", "RANKVIZ_COOKIE_SECRET", "rankviz_gpus"):
        monkeypatch.setenv(name, "8")

    assert ["RANKVIZ_COOKIE_SECRET", "RANKVIZ_MAX_RANK", "rankviz_gpus"] == unread_variables()


@pytest.mark.parametrize("text", ["", "abc", "99999", "0", "-1", "7860.5", "²", " 7860", "1" * 5000])
def test_a_port_that_is_none_is_a_sentence(monkeypatch, text):
    monkeypatch.setenv(PORT, text)

    with pytest.raises(
        InvalidSettingError, match="GRADIO_SERVER_PORT must be a whole number from 1 to 65,535"
    ) as error:
        port()

    assert len(str(error.value)) < 300


def test_the_page_ends_with_that_sentence():
    environment = os.environ | {PORT: "abc"}
    run = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert (1, 1) == (run.returncode, len(run.stderr.splitlines()))
    assert run.stderr.startswith("GRADIO_SERVER_PORT must be a whole number")
