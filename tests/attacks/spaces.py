"""A running shared app in a process of its own, over HTTP."""

import os
import subprocess
import sys
from contextlib import suppress

import psutil
from filelock import FileLock

from tests.support.processes.workers import processes_of
from tests.support.web.ports import free_port
from tests.support.web.serving import ROOT, answers

ADMIN_TOKEN = "an-admin-token-of-this-test"
PLANNERS = ("finetune", "probe")
"""Operations of the worker that train; the others read what came from outside."""


class Space:
    """A running app that strangers share.

    Args:
        folder: Of its log and temporary files.
        home: The runs folder; in `folder` unless given.
        trains: Whether what is queued is trained. Otherwise the supervisor's lock is held here, and it waits.
        before: Called in the app's process before it starts.
        environment: Goes before what a Space has.
    """

    def __init__(self, folder, *, home=None, trains=False, before=None, **environment):
        self.home, self.temp, self.log = home or folder / "home", folder / "temp", folder / "app.log"
        for each in (self.home, self.temp):
            each.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.queue = None if trains else FileLock(self.home / "supervisor.lock")
        if self.queue:
            self.queue.acquire()
        own = {"SPACE_ID": "somebody/rankviz", "RANKVIZ_SHARED": "1", "RANKVIZ_ADMIN_TOKEN": ADMIN_TOKEN}
        place = {"GRADIO_SERVER_PORT": str(port), "RANKVIZ_HOME": str(self.home), "TMPDIR": str(self.temp)}
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", **own, **place, **environment}
        self.before = before
        self.start()

    def start(self):
        """Also after it has been killed."""
        self.process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=self.environment,
            stdout=self.log.open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=self.before,
        )
        answers(self.url, self.process, self.log)
        self.rss = psutil.Process(self.process.pid)

    def readers(self):
        """Its child processes that read what came from outside."""
        found = []
        for child in self.rss.children():
            try:
                command = child.cmdline()
            except psutil.Error:
                continue
            if "rankviz.worker" in command and not set(PLANNERS) & set(command):
                found.append(child)
        return found

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for worker in processes_of(self.home):  # which outlives its app
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        if self.queue:
            self.queue.release()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
