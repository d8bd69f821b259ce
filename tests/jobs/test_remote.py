"""How a job's events and files come here from a cluster that is a folder, and what is not accepted of them."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import AdapterCut, AdapterSaved, Attempt, RunCompleted, RunFailed, RunRequeued, StepLogged
from rankviz.jobs import End, Job, Live, inside
from rankviz.jobs.bundle import Submission, files_in, pack, read_plain, write_job
from rankviz.jobs.inside import Storage
from rankviz.jobs.remote import Remote
from rankviz.store.journal import line_of
from tests.support.processes.workers import Patient, sweep, wait_for

STEP = line_of(StepLogged(time=1.0, step=1, loss=1.0, learning_rate=1e-4, tokens=10, seconds=1.0, memory_bytes=1))
SECOND = line_of(StepLogged(time=2.0, step=2, loss=1.0, learning_rate=1e-4, tokens=20, seconds=2.0, memory_bytes=1))
SAVED = line_of(AdapterSaved(time=1.0, path="adapter", file_bytes=4))
DONE = line_of(RunCompleted(time=2.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="process resident"))
BOUNDS = {"journal_bytes": 10**6, "journal_lines": 1000, "adapter_bytes": 10**6}
LOSS = {"loss": 1.0, "tokens": 1, "examples": 1, "example_losses": (1.0,), "seconds": 1.0}


class Folder(Remote):
    """A cluster whose job writes into a folder; `end_there` is what it says of its end."""

    name = "folder"

    def __init__(self, store, there, **limits):
        super().__init__(store, at_once=1, poll_seconds=0.02, missing_seconds=0.1)
        vars(self).update(BOUNDS | limits)
        self.there, self.end_there, self.submitted = there, None, 0

    def submit(self, job):
        self.submitted += 1
        return "7"

    def poll(self, job):
        return Live(job=job.job, handle="7", end=self.end_there)

    def read(self, job, path, offset, most):
        return Storage(str(self.there)).read(path, offset, most)

    def cancel_job(self, job):
        self.end_there = End()


@pytest.fixture
def setting(store, tmp_path):
    """A run whose job writes into a folder: `write` gives lines of its journal, `start` an engine that follows it."""
    (run_id,) = sweep(store, 4)
    run, made = tmp_path / "there/runs" / run_id, []
    (run / "adapter").mkdir(parents=True)

    def start(**limits):
        made.append(Folder(store, tmp_path / "there", **limits))
        made[-1].start(Job(attempts=(Attempt(run_id, 1),)))
        return made[-1]

    def write(*lines):
        (run / "events.jsonl").write_bytes(b"".join(lines))

    def record():
        return store.get(run_id)

    yield SimpleNamespace(run=run, run_id=run_id, start=start, write=write, record=record, here=store.run_dir(run_id))
    for engine in made:
        engine.release()


def write_adapter(setting, folder="adapter", content=b"1234", config="{}"):
    (setting.run / folder).mkdir(parents=True, exist_ok=True)
    (setting.run / folder / "adapter_model.safetensors").write_bytes(content)
    (setting.run / folder / "adapter_config.json").write_text(config)
    (setting.run / folder / "evil").write_text("evil")


def ended(setting):
    wait_for(lambda: setting.record().state.ended)
    return setting.record()


def test_a_run_completes_once_its_adapter_is_here(setting):
    setting.write(STEP, SAVED, DONE)
    setting.start()
    wait_for(lambda: setting.record().adapter_path)
    assert not setting.record().state.ended

    write_adapter(setting)

    assert ("completed", 1) == (ended(setting).state, len(setting.record().steps))
    assert b"1234" == (setting.here / "adapter/adapter_model.safetensors").read_bytes()
    assert ["adapter_config.json", "adapter_model.safetensors"] == sorted(os.listdir(setting.here / "adapter"))


def test_a_journal_that_grows_comes_once_whoever_brings_it(setting):
    setting.write(STEP, SECOND[:9])
    first = setting.start()
    wait_for(lambda: len(setting.record().steps) == 1)
    first.release()

    setting.write(STEP, SECOND, DONE)
    second = setting.start()

    assert [1, 2] == [step.step for step in ended(setting).steps]
    assert (1, 0) == (first.submitted, second.submitted)


def test_what_is_not_the_current_attempt_is_not_brought(setting, store):
    store.append(setting.run_id, RunFailed(time=1.0, error="no luck"))
    store.append(setting.run_id, RunRequeued(time=2.0, attempt=1))
    setting.write(STEP, DONE)
    engine = setting.start()
    engine.end_there = End(0)

    wait_for(lambda: engine.live()[0].end)

    assert ("queued", ()) == (setting.record().state, setting.record().steps)


@pytest.mark.parametrize("content, config", [(b"123", "{}"), (b"1234", "{"), (None, "")])
def test_a_job_ends_though_a_file_of_it_never_comes_whole_and_its_run_fails(setting, content, config):
    setting.write(STEP, SAVED, DONE)
    if content:
        write_adapter(setting, content=content, config=config)
    engine = setting.start()
    engine.end_there = End(0)

    wait_for(lambda: engine.live()[0].end)

    assert ("failed", 1) == (setting.record().state, len(setting.record().steps))
    assert setting.record().error.startswith("The run completed, but its adapter is not here. adapter/adapter_")
    assert not (setting.here / "adapter").exists()


@pytest.mark.parametrize(
    "limits, words",
    [
        ({"adapter_bytes": 5}, "adapters have more than the 0 MB"),
        ({"journal_lines": 2}, "journal of this run is longer"),
        ({"journal_bytes": 300}, "journal of this run is longer"),
        ({"adapter_bytes": 3}, "adapters have more than the 0 MB"),
    ],
)
def test_a_run_that_writes_more_than_is_accepted_fails(setting, limits, words):
    write_adapter(setting)
    setting.write(STEP, SECOND, SAVED, DONE)

    setting.start(**limits)

    assert words in ended(setting).error
    assert not (setting.here / "adapter").exists()


def test_adapters_without_a_size_and_their_configs_count_with_what_they_have(setting):
    cuts = [line_of(AdapterCut(time=1.0, r=2, path=f"cuts/{number}", file_bytes=None, **LOSS)) for number in range(9)]
    for number in range(9):
        write_adapter(setting, f"cuts/{number}")
    setting.write(*cuts, DONE)

    setting.start(adapter_bytes=20)

    assert "adapters have more than" in ended(setting).error
    assert 3 == len(os.listdir(setting.here / "cuts"))


def test_a_run_with_too_many_truncated_adapters_fails(setting, monkeypatch):
    monkeypatch.setattr("rankviz.jobs.remote.MAX_ADAPTERS", 2)
    setting.write(*(line_of(AdapterCut(time=1.0, r=2, path=f"cuts/{n}", file_bytes=0, **LOSS)) for n in "abc"), DONE)

    setting.start()

    assert "the run has more than 2 of them" in ended(setting).error


def test_an_adapter_that_is_here_is_not_read_again_while_another_is_missing(setting, monkeypatch):
    reads = []
    read = Folder.read
    monkeypatch.setattr(Folder, "read", lambda engine, job, at, *of: reads.append(at) or read(engine, job, at, *of))
    write_adapter(setting)
    cut = line_of(AdapterCut(time=1.0, r=2, path="cuts/r2", file_bytes=4, **LOSS))
    setting.write(SAVED, cut, DONE)
    setting.start()
    wait_for(lambda: sum("cuts/r2/" in path for path in reads) > 6)

    assert 1 == sum("adapter/adapter_model" in path for path in reads)
    write_adapter(setting, "cuts/r2")
    assert "completed" == ended(setting).state


def test_a_run_that_is_deleted_while_its_adapter_is_fetched_gets_no_folder_again(setting, monkeypatch):
    write_adapter(setting)
    read, gone = Folder.read, []

    def delete(engine, job, path, *of):
        data = read(engine, job, path, *of)
        if path.endswith("safetensors") and not gone:
            gone.append([each.name for each in setting.here.iterdir()])
            setting.here.rename(setting.here.with_name(".gone-1"))
        return data

    monkeypatch.setattr(Folder, "read", delete)
    setting.write(SAVED, DONE)
    engine = setting.start()
    engine.end_there = End(0)

    wait_for(lambda: engine.live()[0].end)

    assert not [name for name in gone[0] if name.startswith(".")]
    assert not setting.here.exists()


@pytest.mark.parametrize("name", ["owner.json", "request.json", "cuts", "adapter/x", "cuts/a/b"])
def test_a_journal_that_names_a_file_of_rankviz_as_an_adapter_brings_nothing(setting, name):
    before = (setting.here / "request.json").read_bytes()
    write_adapter(setting, name)
    setting.write(line_of(AdapterSaved(time=1.0, path=name, file_bytes=4)), DONE)
    engine = setting.start()
    engine.end_there = End(0)

    assert "in the journal is not valid" in ended(setting).error
    assert before == (setting.here / "request.json").read_bytes()
    assert {"events.jsonl", "request.json"} == {path.name for path in setting.here.iterdir()}


def test_truncated_adapters_and_the_log_come_too(setting):
    write_adapter(setting, "cuts/r2")
    (setting.run / "worker.log").write_text("hello\n")
    setting.write(line_of(AdapterCut(time=1.0, r=2, path="cuts/r2", file_bytes=4, **LOSS)), DONE)

    setting.start()

    assert "completed" == ended(setting).state
    assert b"1234" == (setting.here / "cuts/r2/adapter_model.safetensors").read_bytes()
    assert "hello\n" == (setting.here / "worker.log").read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"submitted": 1}', '{"submitted": false, "end": [1]}'])
def test_a_job_whose_files_are_damaged_waits_alone(setting, content):
    engine = setting.start()
    engine.release()
    (next(engine.place.iterdir()) / "job.json").write_text(content)

    (live,) = engine.live()

    assert (Attempt(setting.run_id, 1),) == live.job.attempts
    assert "The files of a job cannot be read" in live.waits


def test_a_job_whose_file_is_damaged_changes_no_attempt_of_its_runs(tmp_path, store):
    run_ids = sweep(store, 4, 8)
    engine = Folder(store, tmp_path / "there")
    engine.start(Job(attempts=(Attempt(run_ids[0], 2), Attempt(run_ids[1], 1))))
    supervisor = Patient(store, engines=[engine])
    supervisor.tick()
    engine.release()
    file = next(engine.place.iterdir()) / "job.json"
    content = file.read_text()

    file.write_text("{")
    supervisor.tick()

    assert [2, 1] == [store.get(run_id).attempt for run_id in run_ids]
    waits = store.get(run_ids[1]).waits
    assert "The files of a job cannot be read (folder-jobs/" in waits
    assert str(store.home) not in waits
    file.write_text(content)
    supervisor.tick()
    assert [2, 1] == [store.get(run_id).attempt for run_id in run_ids]
    supervisor.stop()


def test_to_forget_one_job_deletes_no_other(setting, store):
    engine = setting.start()
    (other,) = sweep(store, 8)
    engine.start(Job(attempts=(Attempt(other, 1),)))

    engine.forget(next(live for live in engine.live() if live.job.name == f"{setting.run_id}-a1"))

    assert [f"{other}-a1"] == [path.name for path in engine.place.iterdir()]


@pytest.mark.parametrize("odd", ["folder", "pipe", "link", "no folder"])
def test_what_is_no_plain_file_is_neither_read_nor_listed(tmp_path, odd):
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "run"
    folder.mkdir()
    if odd == "no folder":
        (folder / "x").write_text("a file")
        path = folder / "x/events.jsonl"
    else:
        path = folder / "events.jsonl"
        make = {"folder": Path.mkdir, "pipe": os.mkfifo, "link": lambda each: each.symlink_to(tmp_path / "secret")}
        make[odd](path)
    (folder / "adapter").symlink_to(tmp_path)

    assert b"" == read_plain(path, 0)
    assert [folder / "x"] * (odd == "no folder") == files_in(folder)


def test_a_job_whose_sent_files_are_removed_ends_its_worker(tmp_path, store, monkeypatch):
    monkeypatch.setattr(inside, "WANTED_SECONDS", 0.1)
    monkeypatch.setattr(inside.signal, "signal", lambda *_: None)
    (run_id,) = sweep(store, 4)
    job = Job(attempts=(Attempt(run_id, 1),))
    pack(store, job, tmp_path / "sent", engine="folder")
    write_job(tmp_path / "sent", job, Submission())

    code = inside.main(
        [str(tmp_path / "sent"), str(tmp_path / "back"), "sh", "-c", f"rm {tmp_path}/sent/job.json; exec sleep 10"]
    )

    assert 128 + 15 == code


def test_a_storage_is_a_folder_or_an_address(tmp_path):
    (tmp_path / "sent").write_bytes(b"12345")
    for number, address in enumerate((str(tmp_path / "folder"), "memory://rankviz-test/x")):
        storage = Storage(address)
        storage.write("runs/a", tmp_path / "sent")

        asked = (("runs/a", 1, 3), ("runs/a", 5, 3), ("none", 0, 3))
        assert [b"234", b"", b""] == [storage.read(*each) for each in asked]
        storage.read_all(tmp_path / f"back-{number}")
        assert b"12345" == (tmp_path / f"back-{number}/runs/a").read_bytes()
        storage.remove()
        assert b"" == storage.read("runs/a", 0, 9)
