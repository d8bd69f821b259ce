"""One child process under bounds of memory, processor time, time and output; it ends with this process."""

import contextlib
import fcntl
import os
import re
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from rankviz.errors import after_first_word, redacted
from rankviz.paths import IMPORT_ROOT

CPU_SECONDS_PER_SECOND = 2
NICENESS = 10
LOG_TAIL = 2000
"""Characters of the child's log in an error."""
KEPT_BYTES = 4 * LOG_TAIL
"""Of its log until it ends."""
VARIABLES = re.compile(
    r"PATH|HOME|USER|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|PYTHON\w+|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|\w+_NUM_THREADS"
    r"|OMP_\w+|GOMP_\w+|MKL_\w+|CUDA_\w+|GRADIO_TEMP_DIR|SPACE_ID|RANKVIZ_\w+"
)
"""What a child gets of the environment, without secrets, since it reads what strangers wrote."""
ASKING = re.compile(
    rf"{VARIABLES.pattern}|HF_\w+|HUGGING_?FACE_\w+|TRACKIO_\w+|XDG_CACHE_HOME|SSL_CERT_\w+|\w+_CA_BUNDLE|(?i:\w+_PROXY)"
)
"""The same of one that asks the Hub, as its owner where they have a token."""
TRAINING = re.compile(r".+", re.DOTALL)
"""The same of one that trains: drivers, compilers and libraries read variables that nobody can list."""
SECRET = re.compile(
    r"(?!(HF_TOKEN|HUGGING_FACE_HUB_TOKEN|HF_HUB_DISABLE_IMPLICIT_TOKEN)$)"
    r".*((SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL)S?|TOKEN|_PAT|_PWD)",
    re.DOTALL | re.IGNORECASE,
)
"""Names of variables that no child gets. The Hub's token is none of them: bases may be fetched with it."""
MAX_ANSWER_BYTES = 200_000_000
MAX_FILE_BYTES = 70 * 10**9
"""Of one file that a child writes: more than the largest adapter that is read."""


class Ended(NamedTuple):
    """How a child ended."""

    code: int
    output: bytes
    log: str
    stopped: str
    """Why RankViz stopped it, as the end of a sentence; empty where it ended by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Of one child."""

    seconds: float
    memory_bytes: int
    """Of data: what it allocates, not the files that it maps."""
    answer_bytes: int = MAX_ANSWER_BYTES
    file_bytes: int = MAX_FILE_BYTES


def run(
    command: Sequence[str],
    bounds: Bounds,
    *,
    folder: Path | None = None,
    secret: str = "",
    variables: re.Pattern[str] = VARIABLES,
) -> Ended:
    """The command's standard output and end, under bounds, whatever it does.

    folder: where its temporary files go.
    secret: waits on its standard input, so that it is in no file, no argument and no variable. What the child prints
        is returned without it. Its log has no other token either.
    variables: names of those that it gets of this process's environment.
    """
    # The end of this pipe that nobody writes to closes when this process ends. The kernel then signals the child's
    # whole group, whether or not any of it looks: SIGIO ends a process that does not handle it.
    reads, lives = os.pipe()
    os.write(lives, secret.encode())  # before anybody is told of what arrives: that would end the child
    try:
        child = subprocess.Popen(
            command,
            stdin=reads,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=IMPORT_ROOT,
            env=environment(variables) | ({"TMPDIR": str(folder)} if folder else {}),
            start_new_session=True,
        )
        try:
            _bound(child.pid, reads, bounds)
            output, log, stopped = _outputs(child, bounds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()
            child.stderr.close()
    finally:
        os.close(reads)
        os.close(lives)
    if child.returncode == -signal.SIGXCPU:
        stopped = "used too much processor time"
    if secret:
        output = output.replace(secret.encode(), b"...")
    if len(log) == KEPT_BYTES:
        log = after_first_word(log)
    return Ended(child.returncode, output, redacted(log.decode(errors="replace"), secret)[-LOG_TAIL:], stopped)


def environment(variables: re.Pattern[str]) -> dict[str, str]:
    """This process's variables of these names, without secrets."""
    return {
        name: value for name, value in os.environ.items() if variables.fullmatch(name) and not SECRET.fullmatch(name)
    }


def _bound(pid: int, reads: int, bounds: Bounds) -> None:
    """From outside, so that no child can leave them out. One that has ended already needs none."""
    cpu = max(1, round(CPU_SECONDS_PER_SECOND * bounds.seconds))
    limits = {
        resource.RLIMIT_DATA: (bounds.memory_bytes, bounds.memory_bytes),
        # Five seconds between the signal that says so (SIGXCPU) and the one that does not ask.
        resource.RLIMIT_CPU: (cpu, cpu + 5),
        resource.RLIMIT_FSIZE: (bounds.file_bytes, bounds.file_bytes),
        resource.RLIMIT_CORE: (0, 0),
    }
    with contextlib.suppress(ProcessLookupError):
        fcntl.fcntl(reads, fcntl.F_SETOWN, -pid)
        fcntl.fcntl(reads, fcntl.F_SETFL, fcntl.fcntl(reads, fcntl.F_GETFL) | os.O_ASYNC)
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        for kind, limit in limits.items():
            if hasattr(resource, "prlimit"):  # Linux
                _, most = resource.prlimit(pid, kind)
                resource.prlimit(
                    pid, kind, limit if most == resource.RLIM_INFINITY else tuple(min(most, n) for n in limit)
                )


def _outputs(child: subprocess.Popen, bounds: Bounds) -> tuple[bytes, bytes, str]:
    """What it prints until it ends, of the log only the end; and why it must be stopped."""
    deadline = time.monotonic() + bounds.seconds
    out, log = bytearray(), bytearray()
    held = {child.stdout.fileno(): out, child.stderr.fileno(): log}
    poll = select.poll()
    for fd in held:
        poll.register(fd, select.POLLIN)
    with _end_of(child, poll) as end:
        has_ended = False
        while held or not has_ended:
            left = 0.0 if has_ended else deadline - time.monotonic()
            if left <= 0 and not has_ended:
                return bytes(out), bytes(log), f"took more than {bounds.seconds:g} s"
            events = poll.poll(left * 1000)
            if has_ended and not events:
                break  # something that it has started holds its outputs open
            for fd, _ in events:
                if fd == end:
                    has_ended = True
                    poll.unregister(fd)
                elif data := os.read(fd, 2**16):
                    held[fd] += data
                else:
                    poll.unregister(fd)
                    del held[fd]
            if len(out) > bounds.answer_bytes:
                return b"", bytes(log), f"gave more than {bounds.answer_bytes / 1e6:,.0f} MB"
            del log[:-KEPT_BYTES]
    child.wait()
    return bytes(out), bytes(log), ""


@contextlib.contextmanager
def _end_of(child: subprocess.Popen, poll: select.poll) -> Iterator[int]:
    """What becomes readable when the child ends."""
    if hasattr(os, "pidfd_open"):
        end = os.pidfd_open(child.pid)
    else:  # not Linux: a thread waits for it
        end, ends = os.pipe()
        Thread(target=lambda: (child.wait(), os.close(ends)), daemon=True).start()
    poll.register(end, select.POLLIN)
    try:
        yield end
    finally:
        os.close(end)
