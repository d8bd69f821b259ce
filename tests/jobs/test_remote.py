"""How a job's files come here from a cluster that is a folder, and what is not accepted of them."""

import json
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import AdapterSaved, Attempt, RunCompleted, StepLogged
from rankviz.errors import EngineError, EngineUnavailableError
from rankviz.jobs import End, Job, bundle
from rankviz.jobs.inside import Storage
from rankviz.jobs.remote import MANIFEST, Follower
from rankviz.jobs.submission import JobLimits, RemoteJob, Status, Submission, read_submission
from rankviz.store.journal import line_of, parse_lines
from tests.support.processes.workers import wait_for

STEP = line_of(StepLogged(time=1.0, step=1, loss=1.0, learning_rate=1e-4, tokens=10, seconds=1.0, memory_bytes=1))
SAVED = line_of(AdapterSaved(time=1.0, path="adapter", file_bytes=4))
DONE = line_of(RunCompleted(time=2.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="process resident"))


BOUNDS = JobLimits(journal_bytes=10**6, journal_lines=1000, adapter_bytes=10**6, job_bytes=10**6)


class Folder:
    """A cluster whose job writes into a folder; `status` is what it says of it."""

    shares_folder = False

    def __init__(self, there):
        self.there, self.status = there, Status(handle="7")
        self.submitted = self.cancelled = 0
        self.answer = "7"

    def send(self, job):
        pass

    def why_not(self):
        return ""

    def submit(self, job):
        self.submitted += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def poll(self, job):
        return self.status

    def read(self, job, path, offset, most):
        return Storage(str(self.there)).read(path, offset, most)

    def end(self, job):
        self.cancelled += 1
        self.status = Status(handle="7", end=End(), was_cancelled=True)

    def unsend(self, job):
        pass


@pytest.fixture
def setting(tmp_path):
    """A cluster, and what follows its one job; it is stopped."""
    cluster, made = Folder(tmp_path / "there"), []
    (tmp_path / "there/runs/r4/adapter").mkdir(parents=True)
    (tmp_path / "here/runs/r4").mkdir(parents=True)

    def follow(bounds=BOUNDS, **submission):
        job = RemoteJob(tmp_path / "here", Job(attempts=(Attempt("r4", 1),)), Submission(**submission))
        seconds = {"poll_seconds": 0.02, "missing_seconds": 0.1, "given_up_seconds": 3600}
        made.append(Follower(cluster, job, limits=bounds, **seconds).started())
        return made[-1]

    yield SimpleNamespace(cluster=cluster, follow=follow, here=tmp_path / "here", run=tmp_path / "there/runs/r4")
    for follower in made:
        follower.stop()


def journal(setting):
    return bundle.since(setting.here, "r4", 0)


def write_adapter(setting, content=b"1234", **sizes):
    (setting.run / "adapter/adapter_model.safetensors").write_bytes(content)
    (setting.run / "adapter/adapter_config.json").write_text("{}")
    files = {"adapter/adapter_model.safetensors": len(content), "adapter/adapter_config.json": 2, **sizes}
    (setting.run / MANIFEST).write_text(json.dumps(files))


def test_the_end_of_a_run_is_here_once_its_adapter_is(setting):
    (setting.run / "events.jsonl").write_bytes(STEP + SAVED + DONE)
    setting.follow()
    wait_for(lambda: journal(setting) == STEP + SAVED)

    write_adapter(setting)

    wait_for(lambda: journal(setting) == STEP + SAVED + DONE)
    assert b"1234" == (setting.here / "runs/r4/adapter/adapter_model.safetensors").read_bytes()


def test_a_line_that_is_being_written_is_left_until_it_is_whole(setting):
    (setting.run / "events.jsonl").write_bytes(STEP + b'{"torn": \n')
    setting.follow()
    wait_for(lambda: journal(setting) == STEP)
    time.sleep(0.2)
    assert journal(setting) == STEP

    (setting.run / "events.jsonl").write_bytes(STEP + STEP + DONE)

    wait_for(lambda: journal(setting) == STEP + STEP + DONE)


def test_who_comes_after_a_killed_app_goes_on_where_that_stopped(setting):
    (setting.run / "events.jsonl").write_bytes(STEP + STEP + DONE)
    (setting.here / "runs/r4/events.jsonl").write_bytes(STEP + STEP[:9])

    setting.follow(submitted=True, handle="7")

    wait_for(lambda: journal(setting) == STEP + STEP + DONE)
    assert 0 == setting.cluster.submitted


def test_a_job_is_ended_though_a_file_of_it_never_comes(setting):
    (setting.run / "events.jsonl").write_bytes(STEP + SAVED + DONE)
    setting.cluster.status = Status(handle="7", end=End(0))

    follower = setting.follow()

    wait_for(lambda: follower.end)
    assert (0, STEP + SAVED + DONE) == (follower.end.exit_code, journal(setting))
    with pytest.raises(EngineError, match="did not arrive whole"):
        bundle.collect(setting.here, "r4", setting.here / "collected")


@pytest.mark.parametrize(
    "bounds, words",
    [
        (replace(BOUNDS, journal_lines=2), "journal of this run is longer"),
        (replace(BOUNDS, journal_bytes=300), "journal of this run is longer"),
        (replace(BOUNDS, adapter_bytes=5), "adapters have 2 files"),
        (replace(BOUNDS, job_bytes=5), "adapters have 2 files"),
    ],
)
def test_a_run_that_writes_more_than_is_accepted_fails(setting, bounds, words):
    write_adapter(setting)
    (setting.run / "events.jsonl").write_bytes(STEP + STEP + SAVED + DONE)

    setting.follow(bounds)

    wait_for(lambda: words in str(parse_lines(journal(setting))[-1:]))
    assert not (setting.here / "runs/r4/adapter").exists()


def test_files_outside_of_the_adapters_that_the_journal_names_do_not_come(setting):
    hostile = ("../../evil", "/etc/evil", "other/evil", "adapter/../evil", "request.json")
    write_adapter(setting, **dict.fromkeys(hostile, 4))
    (setting.run / "request.json").write_bytes(b"evil")
    (setting.run / "events.jsonl").write_bytes(SAVED + DONE)

    setting.follow()

    wait_for(lambda: journal(setting) == SAVED + DONE)
    found = {path.name for path in setting.here.parent.rglob("*") if setting.run not in path.parents}
    assert not found & {"evil", "request.json"}


@pytest.mark.parametrize("manifest", ["[]", "[" * 9999, '{"adapter/x": "y"}', "nonsense", '{"adapter/x": -1}'])
def test_a_list_of_files_that_makes_no_sense_counts_as_none(setting, manifest):
    (setting.run / MANIFEST).write_text(manifest)
    (setting.run / "events.jsonl").write_bytes(STEP + DONE)

    setting.follow()

    wait_for(lambda: journal(setting) == STEP + DONE)


def test_a_job_whose_answer_was_lost_is_looked_for_and_never_submitted_again(setting):
    setting.cluster.answer, setting.cluster.status = EngineUnavailableError("No answer."), None

    follower = setting.follow()

    wait_for(lambda: follower.end)
    assert (1, True) == (setting.cluster.submitted, follower.end.lost)
    assert read_submission(setting.here).submitted


@pytest.mark.parametrize("content", ["", "{", "[]", '{"submitted": 1}', '{"submitted": false, "end": [1]}'])
def test_a_submission_that_cannot_be_read_may_have_been_made(tmp_path, content):
    (tmp_path / "submission.json").write_text(content)

    assert read_submission(tmp_path).submitted


def test_a_storage_is_a_folder_or_an_address(tmp_path):
    (tmp_path / "sent/runs").mkdir(parents=True)
    (tmp_path / "sent/runs/a").write_bytes(b"12345")
    for number, address in enumerate((str(tmp_path / "folder"), "memory://rankviz-test/x")):
        storage = Storage(address)
        storage.write_all(tmp_path / "sent")

        assert [b"234", b"", b""] == [
            storage.read(*asked) for asked in (("runs/a", 1, 3), ("runs/a", 5, 3), ("none", 0, 3))
        ]
        storage.read_all(tmp_path / f"back-{number}")
        assert b"12345" == (tmp_path / f"back-{number}/runs/a").read_bytes()
        storage.remove()
        assert storage.has_gone("runs/a")
    shutil.rmtree(tmp_path / "sent")
