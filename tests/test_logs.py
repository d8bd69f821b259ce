"""What a process says of itself has no token, whoever says it; and what all messages have in common."""

import logging
import os
import pickle
import subprocess
import sys
import threading

import pytest

from rankviz import cli
from rankviz.children import remade
from rankviz.cli import commands
from rankviz.core.bounds import printable, shown
from rankviz.errors import (
    MAX_MESSAGE,
    BadAdapterError,
    EngineUnavailableError,
    PublishError,
    RunUnreadError,
    UserError,
    quoted,
    shortened,
)
from rankviz.paths import IMPORT_ROOT
from rankviz.ui import serve

TOKEN = "hf_alicesOwnToken0123456789"
SECRET = "ofAMirror0123456789"
"""Of no shape that is known: that of a variable."""
SAYINGS = {
    "message": "logging.getLogger('any').warning('bad token %s', TOKEN)",
    "repr": "logging.getLogger('any').warning('%r', {'\\n': '\\n' + TOKEN})",
    "traceback": "try: fail()\nexcept ValueError: logging.getLogger('any').exception('It stumbled')",
    "formatter": "handler = logging.StreamHandler()\nhandler.setFormatter(logging.Formatter('%(message)s'))\n"
    "logging.getLogger().addHandler(handler)\nlogging.getLogger('any').error('bad', exc_info=error())",
    "stack": "logging.getLogger('any').warning('bad', stack_info=True)  # hf_alicesOwnToken0123456789",
    "task": "async def lose():\n    task = asyncio.ensure_future(later())\n    await asyncio.sleep(0.01)\n"
    "async def later(): fail()\nasyncio.run(lose()); gc.collect()",
    "thread": "t = threading.Thread(target=fail); t.start(); t.join()",
    "forgotten": "class Gone:\n    def __del__(self): fail()\nGone()",
    "end": "fail()",
}
BEGINNING = f"""import asyncio, gc, logging, threading
TOKEN = "{TOKEN}"
def fail():
    try: raise KeyError(TOKEN)
    except KeyError as cause: raise ValueError("bad token " + TOKEN) from cause
def error():
    try: fail()
    except ValueError as error: return error
"""


def test_what_a_process_says_has_no_token(tmp_path):
    """Whoever says it. In one process, which the last saying ends."""
    says = ["import runpy, sys; from rankviz import logs; logs.keep_tokens_out()"]
    for name, saying in SAYINGS.items():
        (tmp_path / f"{name}.py").write_text(BEGINNING + saying)
        says += [f"print('SAYING {name}', file=sys.stderr, flush=True)", f"runpy.run_path('{tmp_path}/{name}.py')"]

    command = [sys.executable, "-c", "\n".join(says)]
    said = subprocess.run(command, cwd=IMPORT_ROOT, capture_output=True, text=True).stderr

    _, *parts = said.split("SAYING ")
    assert ([*SAYINGS], []) == ([part.split()[0] for part in parts], [part for part in parts if "..." not in part])
    assert TOKEN not in said


def test_a_child_says_nothing_with_a_token():
    run = subprocess.run(
        [sys.executable, "-m", "rankviz.worker", "data", SECRET],
        cwd=IMPORT_ROOT,
        env={**os.environ, "HF_TOKEN": SECRET},
        capture_output=True,
        text=True,
    )

    assert "FileNotFoundError" in run.stderr
    assert SECRET not in run.stderr


class StopError(Exception):
    pass


def stop(*_, **__):
    raise StopError


@pytest.fixture
def plain(monkeypatch):
    """This process as it was before anything of RankViz was started in it."""
    for place, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(place, name, getattr(place, name))
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(("module", "first", "start"), [(commands, "run", cli.main), (serve, "Api", serve.serve)])
def test_the_command_line_and_the_page_keep_tokens_out_first(plain, monkeypatch, caplog, module, first, start):
    monkeypatch.setattr(module, first, stop)
    monkeypatch.setattr(sys, "argv", ["rankviz", "serve"])

    with pytest.raises(StopError):
        start()

    logging.getLogger("any").error("bad token %s", TOKEN)
    assert "bad token ..." in caplog.text


SAID = f"The Hub says: bad token {TOKEN}"
CUTS = {
    "quoted": quoted,
    "printable": lambda text: printable(text, 100),
    "shortened": lambda text: shortened(text, 100),
    "shown": shown,
    "message": lambda text: str(UserError(text + "x" * (MAX_MESSAGE - 100))),
}


def test_a_message_has_an_end_whatever_it_quotes():
    for error in (BadAdapterError(f"{'layer.' * 10**6} is wrong."), UserError("x" * (MAX_MESSAGE + 1))):
        assert MAX_MESSAGE == len(str(error))
        assert str(error).endswith("…")


@pytest.mark.parametrize("token", [TOKEN, "hf_oauth_eyJhbGciOi.eyJzdWIi-OiIx.c2lnbmF0-dXJl_", "ofAMirror/0123456789+"])
def test_no_message_has_a_token(monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", f"{token}\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f0" * 32)

    assert "Ray: no rights for ..., (...)" == str(EngineUnavailableError(f"Ray: no rights for {token}, ({'f0' * 32})"))


@pytest.mark.parametrize(
    "error",
    [
        PublishError(SAID),
        remade("PublishError", SAID, otherwise=UserError),
        remade("RunUnreadError", SAID, otherwise=UserError),
        RunUnreadError("r4", SAID),
        EngineUnavailableError(SAID, 3),
    ],
)
def test_nothing_of_an_error_has_a_token(error):
    assert "The Hub says" in str(error)
    assert "alicesOwn" not in f"{error} {error!r} {error.args} {pickle.dumps(error)}"


@pytest.mark.parametrize("cut", CUTS)
def test_what_is_cut_off_ends_with_no_part_of_a_token(cut):
    texts = [CUTS[cut](f"{'x' * before} {TOKEN} {'y' * 200}") for before in range(20, 220)]

    assert any("..." in text for text in texts)
    assert [] == [text for text in texts if "hf_" in text]
