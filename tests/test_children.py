"""Child processes under bounds, and in a line: what they may take, that nothing is left, and whose turn it is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from rankviz.children import HUB_VARIABLES, READING_VARIABLES, Bounds, Children, ChildWork, FairLine
from rankviz.children import run as run_one
from rankviz.errors import BadAdapterError, BusyError, NotInstalledError, WorkerError
from rankviz.paths import IMPORT_ROOT
from rankviz.visitor import Visitor, acting_as
from tests.support.processes.workers import wait_for

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


@pytest.mark.parametrize("code", ("import os; os.abort()", "print(1 / 2)", "print('[1]')", "print('[' * 9**5)", "1/0"))
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

    wait_for(lambda: is_gone(pid))


def test_nothing_is_left_of_an_app_that_is_killed(tmp_path):
    pids = tmp_path / "pids"
    child = SLEEPER + (
        f"import os, re; open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{p.pid}}\\n'); re.match('(a+)+b', 'a' * 60)"
    )
    run = f"run([{sys.executable!r}, '-c', {child!r}], Bounds(seconds=300, memory_bytes=10**9))"
    env = os.environ | {"PYTHONPATH": str(IMPORT_ROOT)}
    app = subprocess.Popen(python(f"from rankviz.children import *; {run}"), env=env)
    wait_for(lambda: pids.exists() and pids.read_text().endswith("\n"))

    os.kill(app.pid, signal.SIGKILL)
    app.wait()

    for pid in pids.read_text().split():
        wait_for(lambda pid=int(pid): is_gone(pid))


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
    asks = ask(running(PRINTS_ITS_VARIABLES, work=ChildWork(variables=HUB_VARIABLES)))

    assert not set(SECRETS) & set(reads)
    assert {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} == set(SECRETS) & set(asks)
    assert {"PATH", "RANKVIZ_MAX_STEPS", "LC_ALL"} <= set(reads)


@pytest.mark.parametrize("shared", [True, False])
def test_of_what_a_server_runs_only_those_that_ask_the_hub_have_its_token(tmp_path, shared):
    from rankviz.api.workspace import Workspace

    here = Workspace(tmp_path, shared=shared)
    reads, asks = (here.children, here.layouts), (here.senders, here.hub._lookups, here.hub._downloads)

    assert [READING_VARIABLES] * 2 == [each.work.variables for each in reads]
    assert [HUB_VARIABLES] * 3 == [each.work.variables for each in asks]


BUSY = "One at a time. Try again in a minute."


class Played:
    """A line with visitors in threads of their own. Who is let in stays until `go_on`, one after the other."""

    def __init__(self, line: FairLine, pool: ThreadPoolExecutor):
        self.line, self.pool = line, pool
        self.order: list[str] = []
        self.leave: dict[str, Event] = {}

    def comes(self, name: str) -> Future:
        """A request of the visitor whom the first letter names. Returns once it is in and in `order`, waits or is
        refused."""
        before, self.leave[name] = self.line.length, Event()
        future = self.pool.submit(self._through, name)
        wait_for(lambda: self.line.length > before or future.done())
        time.sleep(0.1)  # one that is let in is in `order` by then
        return future

    def _through(self, name: str) -> None:
        with acting_as(Visitor(name[0])), self.line.turn():
            self.order.append(name)
            assert self.leave[name].wait(60)

    def let_all_through(self) -> list[str]:
        """The order in which they were in."""
        wait_for(lambda: [self.leave[name].set() for name in self.order] and not self.line.length)
        return self.order


@contextmanager
def played(at_once: int = 1, **settings) -> Iterator[Played]:
    with ThreadPoolExecutor(40) as pool:
        now = Played(FairLine(at_once, **{"busy": BUSY, "seconds": 60} | settings), pool)
        try:
            yield now
        finally:
            for event in now.leave.values():
                event.set()


def test_visitors_take_turns_however_many_requests_one_has_sent():
    with played() as line:
        for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
            line.comes(name)

        assert ["a1", "b1", "c1", "a2", "b2", "a3", "a4"] == line.let_all_through()


def test_one_visitor_has_no_more_places_than_each_may_have():
    with played(2, each=1) as line:
        for name in ("a1", "a2"):
            line.comes(name)
        assert ["a1"] == line.order
        line.comes("b1")

        assert ["a1", "b1"] == line.order[:2]
        assert {"a1", "a2", "b1"} == set(line.let_all_through())


def test_who_has_too_many_in_the_line_is_refused_at_once_and_others_are_not():
    with played(of_a_visitor=3) as line:
        for name in ("a1", "a2", "a3"):
            line.comes(name)

        with pytest.raises(BusyError, match=BUSY):
            line.comes("a4").result(60)
        assert not line.comes("b1").done()


def test_who_waits_too_long_is_refused_and_leaves_no_trace():
    line = FairLine(1, busy=BUSY, seconds=0.2)

    with line.turn(), pytest.raises(BusyError, match=BUSY), acting_as(Visitor("b")), line.turn():
        pass

    assert 0 == line.length
    with line.turn():
        pass
