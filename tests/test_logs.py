"""What a process says of itself has no token, whoever says it."""

import logging
import os
import subprocess
import sys
import threading

import pytest

from rankviz import cli
from rankviz.cli import commands
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
    "end": "fail()",
    "forgotten": "class Gone:\n    def __del__(self): fail()\nGone()",
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


@pytest.mark.parametrize("saying", SAYINGS)
def test_what_a_process_says_has_no_token(saying, tmp_path):
    (tmp_path / "says.py").write_text(BEGINNING + SAYINGS[saying])
    says = f"import runpy; from rankviz import logs; logs.keep_tokens_out(); runpy.run_path('{tmp_path}/says.py')"

    said = subprocess.run([sys.executable, "-c", says], cwd=IMPORT_ROOT, capture_output=True, text=True).stderr

    assert "..." in said, said
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
