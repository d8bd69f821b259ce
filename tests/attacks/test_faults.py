"""What machines and crowds do: a full disk, two apps on one folder, a clock that jumps, visitors without number."""

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from rankviz.machine import disk
from rankviz.store.temp import FRESH_SECONDS
from tests.attacks.payloads import run_files, runs_zip
from tests.attacks.spaces import Space
from tests.attacks.test_files import kept_as
from tests.attacks.test_imports import imported
from tests.attacks.test_owners import sweeps_of
from tests.attacks.watching import tracebacks, watched
from tests.support.processes.hostile_disks import fill, obey_modes, read_only_folder, small_disk
from tests.support.web.stranger import Stranger, file_data


def everything(stranger, name):
    """The errors of all that writes."""
    errors = [stranger.press("train-button", train_steps=2).error]
    errors.append(stranger.press("probe-button", model="HuggingFaceTB/SmolLM2-135M").error)
    errors.append(stranger.press("adapter-sample", adapter_source="sample").error)
    reply = stranger.http.post("/gradio_api/upload", files={"files": ("runs.zip", runs_zip((name, run_files(name))))})
    if reply.status_code != 200:
        return [*errors, reply.text]
    data = file_data(reply.json()[0], "runs.zip")
    return [*errors, *(answer.error for answer in stranger.run("import-runs", "upload", import_runs=data))]


def test_on_a_full_disk_the_page_goes_on_and_with_room_everything_does(tmp_path, name):
    with small_disk(16) as folder, Space(tmp_path, home=folder / "home") as space:
        ann, ben = Stranger(space.url), Stranger(space.url)
        imported(ann, runs_zip((f"{name}-1", run_files(f"{name}-1"))))
        filler = fill(folder)

        errors = watched(space, ben, "a disk that is full", lambda: everything(ann, f"{name}-2"))

        assert disk.FOR_VISITORS[disk.FULL_SENTENCE] in " ".join(errors), errors
        assert "Internal Server Error" not in " ".join(errors), errors
        assert f"{name}-1" in sweeps_of(ann)
        assert f"{name}-2" not in sweeps_of(ann)
        filler.unlink()
        assert imported(ann, runs_zip((f"{name}-2", run_files(f"{name}-2"))))
        assert f"{name}-2" in sweeps_of(ann)


@pytest.mark.slow
def test_on_a_read_only_folder_the_page_goes_on_and_says_why_nothing_is_kept(tmp_path, name):
    with read_only_folder() as home, Space(tmp_path, home=home, trains=True, before=obey_modes) as space:
        ann, ben = Stranger(space.url), Stranger(space.url)

        errors = watched(space, ben, "a runs folder that is read-only", lambda: everything(ann, name))

        assert disk.FOR_VISITORS[disk.READ_ONLY_SENTENCE] in " ".join(errors), errors
        assert "Internal Server Error" not in " ".join(errors), errors
        assert 20 > len(space.log.read_text().splitlines()), space.log.read_text()[-2000:]


@contextmanager
def full_at_first():
    """(a runs folder, what ends that)."""
    with small_disk(16) as folder:
        home = folder / "home"
        (home / "runs").mkdir(parents=True)
        filler = fill(folder)
        yield home, filler.unlink


@contextmanager
def read_only_at_first():
    with read_only_folder() as home:
        yield home, lambda: home.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [full_at_first, read_only_at_first])
def test_where_nothing_could_be_written_at_the_start_nothing_that_is_saved_later_is_lost(tmp_path, name, trouble):
    with trouble() as (home, end), Space(tmp_path, home=home, trains=True, before=obey_modes) as space:
        ann = Stranger(space.url)
        answers = " ".join(everything(ann, name))
        assert any(sentence in answers for sentence in disk.FOR_VISITORS.values()), answers

        end()
        imported(ann, runs_zip((name, run_files(name))))
        uploaded = ann.upload("data.jsonl", b'{"text": "a b c"}\n')
        space.process.terminate()
        space.process.wait(120)
        space.start()

        assert name in sweeps_of(ann)
        assert home in Path(uploaded).parents
        assert {"cookie.key", ".cookie.key.lock"} == {path.name for path in home.iterdir() if "cookie" in path.name}


@pytest.mark.slow
def test_two_apps_on_one_folder_share_its_runs_and_take_no_import_twice(tmp_path, name):
    with Space(tmp_path / "a") as first, Space(tmp_path / "b", home=first.home, trains=True) as second:
        ann, ben = Stranger(first.url), Stranger(second.url)
        again = Stranger(second.url, cookies=dict(ann.http.cookies))

        watched(second, ben, "two apps on one folder", lambda: imported(ann, runs_zip((name, run_files(name)))))
        assert name in sweeps_of(again)
        assert name not in sweeps_of(ben)
        answer = imported(again, runs_zip((name, run_files(name))))

        assert "is here already" in answer
        assert "" == again.endpoint("delete", kept_as(again, name)).error
        assert name not in sweeps_of(ann)
        assert [] == ann.load("?tab=runs")
        assert [] == tracebacks(first.log.read_text())


CLOCK = """import os, time
_real = time.time
_file = os.path.join(os.path.dirname(os.path.dirname(__file__)), "jumped")
def _jumped():
    with open(_file) as file:
        return _real() + float(file.read() or 0)
time.time = _jumped
"""
"""sitecustomize.py: a clock that somebody sets."""
DAY = 86_400


@pytest.fixture
def jumping(tmp_path):
    """(a shared app, the file that says by how many seconds its clock is wrong)."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK)
    jumped = tmp_path / "jumped"
    jumped.write_text("0")
    with Space(tmp_path, PYTHONPATH=str(tmp_path / "site")) as space:
        yield space, jumped


@pytest.mark.slow
def test_a_clock_that_jumps_loses_nothing(jumping, name):
    space, jumped = jumping
    ann, ben = Stranger(space.url), Stranger(space.url)
    jumps = (0, 3 * DAY, -400 * DAY, 5000 * DAY)

    def attack():
        for number, jump in enumerate(jumps):
            jumped.write_text(str(jump))
            imported(ann, runs_zip((f"{name}-{number}", run_files(f"{name}-{number}"))))
            ann.press("train-button", train_steps=2)
            assert [] == ann.load("?tab=train")
            assert [] == ann.load(f"?tab=runs&sweep={name}-0-sweep&run={name}-0")
        return sweeps_of(ann)

    runs = watched(space, ben, "a clock that jumps", attack)

    assert all(f"{name}-{number}" in runs for number in range(len(jumps)))
    # Two quick looks, of which each trains r = 4 twice.
    assert 4 == sum(row["state"] == "queued" and row["r"] == 4 for row in json.loads(runs)[0])


@pytest.fixture
def small(tmp_path):
    """A shared app with little room for all visitors together."""
    limits = {"RUNS_IN_TOTAL": 20, "SWEEPS": 4, "DISK_MB": 8}
    with Space(tmp_path, **{f"RANKVIZ_MAX_{name}": str(value) for name, value in limits.items()}) as space:
        yield space


@pytest.mark.slow
def test_imports_of_visitors_without_number_keep_nobody_out(small, name):
    ann, ben = Stranger(small.url), Stranger(small.url)

    def attack():
        for number in range(3):
            ann.become_another()
            runs = [(f"{name}-{number}-{each}", run_files(f"{name}-{number}-{each}", name)) for each in range(10)]
            imported(ann, runs_zip(*runs))

    watched(small, ben, "imports of visitors without number", attack)

    assert "" == ben.press("train-button", train_steps=2).error
    imported(ben, runs_zip((f"{name}-b", run_files(f"{name}-b"))))
    assert f"{name}-b" in sweeps_of(ben)


@pytest.mark.slow
def test_queued_sweeps_of_visitors_without_number_leave_a_place(small, name):
    ann, ben = Stranger(small.url), Stranger(small.url)

    def attack():
        errors = []
        for _ in range(2):
            ann.become_another()
            errors += [ann.press("train-button", train_steps=2).error for _ in range(3)]
        return errors

    errors = watched(small, ben, "queued sweeps of visitors without number", attack)

    assert 4 == errors.count("")
    assert "" == ben.press("train-button", train_steps=2).error
    assert "in total" in ben.press("train-button", train_steps=2).error


def test_uploads_of_visitors_without_number_make_room(small):
    ann, ben = Stranger(small.url), Stranger(small.url)

    def attack():
        for number in range(2):
            ann.become_another()
            path = ann.upload("rows.jsonl", f"{number}".encode() * 950_000)
            os.utime(path, (time.time() - FRESH_SECONDS - 60,) * 2)  # some minutes later

    watched(small, ben, "uploads of visitors without number", attack)

    assert ben.upload("mine.jsonl", b"x" * 500_000)
