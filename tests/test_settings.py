"""What the environment of a server may say."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from rankviz.errors import InvalidSettingError
from rankviz.settings import PORT, SHARED_LIMITS, TUNABLE, Settings, port, read, read_limits, unread_variables

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
    for name in ("RANKVIZ_MAX_RANK", "RANKVIZ_MAX_STEPS", "RANKVIZ_SHARED", "RANKVIZ_COOKIE_SECRET"):
        monkeypatch.setenv(name, "8")

    assert ["RANKVIZ_COOKIE_SECRET", "RANKVIZ_MAX_RANK"] == unread_variables()


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
