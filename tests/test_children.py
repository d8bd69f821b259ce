"""Child processes under bounds: what they may take, and that nothing of them is left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankviz.children import HUB_VARIABLES, READING_VARIABLES, Bounds, Children
from rankviz.children import run as run_one
from rankviz.errors import BadAdapterError, NotInstalledError, WorkerError
from rankviz.paths import IMPORT_ROOT
from rankviz.visitor import Visitor, acting_as

WIDE = Bounds(seconds=60, memory_bytes=10**9)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def running(code: str, bounds: Bounds = WIDE, **settings) -> Children:
    """Children that run this code, whatever they are asked."""
    return Children(bounds, worker=python(code), **settings)


def ask(some: Children, **settings):
    with some.turn():
        return some.ask("anything", {}, about="mine.zip", error=BadAdapterError, **settings)


def bounded(kind: str, limit: int) -> str:
    """The beginning of a child's code, which goes on once it has this limit, given from outside while it starts."""
    return f"import resource, time\nwhile resource.getrlimit(resource.{kind})[0] != {limit}: time.sleep(0.01)\n"


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked for its end yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(happens) -> None:
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_reads_what_it_is_asked_from_a_folder_that_is_gone_afterwards():
    code = (
        "import sys, json; print(json.dumps({'asked': open(sys.argv[2] + '/request.json').read(), 'at': sys.argv[2]}))"
    )
    some = running(code)

    with some.turn():
        reply = some.ask("read", {"path": "a.zip"}, about="a.zip", error=BadAdapterError)

    assert {"path": "a.zip"} == json.loads(reply["asked"])
    assert not Path(reply["at"]).exists()


def test_an_error_of_ours_comes_out_as_it_went_in():
    code = """print('{"error": "NotInstalledError", "message": "Add it."}'); raise SystemExit(2)"""

    with pytest.raises(NotInstalledError, match=r"^Add it\.$"):
        ask(running(code))


@pytest.mark.parametrize(
    "code", ("import os; os.abort()", "print(1 / 2)", "print('[1]')", "print('[' * 9**5)", "1 / 0")
)
def test_a_child_without_an_answer_is_one_sentence(code):
    with pytest.raises(WorkerError, match=r"reads mine\.zip ended with code .* and no answer"):
        ask(running(code))


@pytest.mark.parametrize(
    ("code", "may_be_memory"),
    [
        ("1 / 0", False),
        ("raise FileNotFoundError('relhome/tmp')", False),
        ("raise MemoryError", True),
        ("import os; os.kill(os.getpid(), 9)", True),
    ],
)
def test_a_child_is_said_to_have_run_out_of_memory_where_it_said_so_or_was_killed(code, may_be_memory):
    with pytest.raises(WorkerError) as failure:
        ask(running(code))

    assert may_be_memory == ("memory" in str(failure.value))


def test_memory_beyond_the_bound_is_refused_to_a_child():
    code = f"{bounded('RLIMIT_DATA', 200_000_000)}try: x = bytearray(400_000_000)\nexcept MemoryError: print('{{}}')"

    assert {} == ask(running(code, Bounds(seconds=60, memory_bytes=200_000_000)))


def test_a_child_that_holds_the_interpreter_is_stopped_at_its_time():
    with pytest.raises(BadAdapterError, match=r"Reading mine\.zip took more than 0\.5 s, so RankViz stopped"):
        ask(running("import re; re.match('(a+)+b', 'a' * 60)", Bounds(seconds=0.5, memory_bytes=10**9)))


def test_processor_time_is_bounded_from_outside():
    code = f"{bounded('RLIMIT_CPU', 120)}print([resource.getrlimit(resource.RLIMIT_CPU)[0]])"

    assert b"[120]\n" == run_one(python(code), WIDE).output


def test_an_endless_answer_is_stopped():
    with pytest.raises(BadAdapterError, match="gave more than 1 MB"):
        ask(running("while True: print('x' * 1000)", Bounds(seconds=60, memory_bytes=10**9, answer_bytes=10**6)))


def test_a_file_beyond_the_bound_cannot_be_written(tmp_path):
    code = f"{bounded('RLIMIT_FSIZE', 10**6)}with open('{tmp_path}/out', 'wb') as f: f.write(b'x' * 2_000_000)"

    ended = run_one(python(code), Bounds(seconds=60, memory_bytes=10**9, written_file_bytes=10**6))

    assert "File too large" in ended.log
    assert 10**6 >= (tmp_path / "out").stat().st_size


SLEEPER = (
    "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], stdout=2); "
)


def test_a_grandchild_ends_with_the_child():
    pid = ask(running(SLEEPER + """print('{"pid": %d}' % p.pid)"""))["pid"]

    wait_until(lambda: is_gone(pid))


def test_nothing_is_left_of_an_app_that_is_killed(tmp_path):
    pids = tmp_path / "pids"
    child = SLEEPER + (
        f"import os, re; open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{p.pid}}\\n'); re.match('(a+)+b', 'a' * 60)"
    )
    run = f"run([{sys.executable!r}, '-c', {child!r}], Bounds(seconds=300, memory_bytes=10**9))"
    app = subprocess.Popen(
        python(f"from rankviz.children import *; {run}"), env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT)}
    )
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))

    os.kill(app.pid, signal.SIGKILL)
    app.wait()

    for pid in pids.read_text().split():
        wait_until(lambda pid=int(pid): is_gone(pid))


def test_what_cannot_be_read_is_not_tried_again_for_a_while(tmp_path):
    code = f"open({str(tmp_path / 'tried')!r}, 'a').write('x'); raise SystemExit(9)"
    some = running(code)

    for key in ("same", "same", "other"):
        with pytest.raises(WorkerError, match="ended with code 9"):
            ask(some, key=key)

    assert "xx" == (tmp_path / "tried").read_text()


def test_a_secret_is_read_from_standard_input_and_is_in_nothing_that_the_child_prints():
    code = (
        "import os, sys, json; s = os.read(0, 100).decode();"
        "print(json.dumps({'length': len(s), 'said': s})); print('it is', s, file=sys.stderr); sys.exit({exit})"
    )

    assert {"length": 10, "said": "..."} == ask(running(code.replace("{exit}", "0")), secret="hf_0123456")
    with pytest.raises(WorkerError) as failure:
        ask(running(code.replace("{exit}", "1")), secret="hf_0123456")
    assert ["it is ...\n"] == failure.value.__notes__


def test_what_a_child_logs_has_no_token_of_hugging_face():
    with pytest.raises(WorkerError) as failure:
        ask(running("raise SystemExit('no rights for hf_alicesOwnToken0123456789')"))

    assert ["no rights for ...\n"] == failure.value.__notes__


def test_who_brings_again_what_could_not_be_read_takes_no_place():
    some = running("raise SystemExit(9)")
    with pytest.raises(WorkerError), some.turn("bad"):
        some.ask("anything", {}, about="mine.zip", error=BadAdapterError, key="bad")

    with some.turn(), acting_as(Visitor("again")), pytest.raises(WorkerError), some.turn("bad"):
        pass


PRINTS_ITS_VARIABLES = "import json, os; print(json.dumps(dict(os.environ)))"
SECRETS = (
    "RANKVIZ_ADMIN_TOKEN",
    "RANKVIZ_COOKIE_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "RANKVIZ_OTHER_SECRET",
    "HF_OAUTH_KEY",
)


def test_a_child_that_reads_has_no_token_and_no_key_in_its_environment(monkeypatch):
    for name in (*SECRETS, "RANKVIZ_MAX_STEPS", "LC_ALL"):
        monkeypatch.setenv(name, "sixteen letters or more")

    reads = ask(running(PRINTS_ITS_VARIABLES))
    asks = ask(running(PRINTS_ITS_VARIABLES, variables=HUB_VARIABLES))

    assert not set(SECRETS) & set(reads)
    assert {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} == set(SECRETS) & set(asks)
    assert {"PATH", "RANKVIZ_MAX_STEPS", "LC_ALL"} <= set(reads)


@pytest.mark.parametrize("shared", [True, False])
def test_of_what_a_server_runs_only_those_that_ask_the_hub_have_its_token(tmp_path, shared):
    from rankviz.api.workspace import Workspace

    here = Workspace(tmp_path, shared=shared)
    reads, asks = (here.children, here.layouts), (here.senders, here.hub._lookups, here.hub._downloads)

    assert [READING_VARIABLES] * 2 == [each._variables for each in reads]
    assert [HUB_VARIABLES] * 3 == [each._variables for each in asks]
