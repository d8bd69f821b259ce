"""Runs that are exported into a zip and come in again elsewhere."""

import csv
import io
import zipfile
from dataclasses import replace

import pytest

from rankviz.core.runs.events import Evaluated, RunCancelled
from rankviz.errors import InvalidSettingError, LimitError, RunNotFoundError
from rankviz.store import RunStore, export_runs, import_runs
from rankviz.store.journal import request_text
from tests.store.written_runs import DONE, STARTED, ended_run, one_run
from tests.support.runs import questions


def test_exported_runs_come_in_again_elsewhere(tmp_path):
    here, there = RunStore(tmp_path / "here"), RunStore(tmp_path / "there")
    run_id = ended_run(here)

    archive = export_runs([here], [run_id], tmp_path / "runs.zip")
    imported = import_runs(there, archive)

    assert [run_id] == imported
    assert here.get(run_id) == there.get(run_id)
    with zipfile.ZipFile(archive) as opened:
        header, row = opened.read("summary.csv").decode().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["peak_memory_bytes"] == "100"


def exported(store, run_id, file, target):
    """A CSV of the zip as rows."""
    with zipfile.ZipFile(export_runs([store], [run_id], target)) as opened:
        return list(csv.DictReader(io.StringIO(opened.read(file).decode())))


def test_an_export_has_what_each_example_counted_beside_its_loss(tmp_path):
    store = RunStore(tmp_path / "a")
    run_id = one_run(store)
    counts = {"correct_tokens": 3, "example_tokens": (4, 2), "example_correct_tokens": (1, 2)}
    counts |= {"example_exact_matches": (0, None), "example_losses": (1.5, 0.5)}
    evaluated = Evaluated(time=2.0, when="after", loss=1.2, tokens=6, examples=2, seconds=1.0, **counts)
    for event in (STARTED, evaluated, DONE):
        store.append(run_id, event)

    rows = exported(store, run_id, "losses.csv", tmp_path / "runs.zip")
    (summary,) = exported(store, run_id, "summary.csv", tmp_path / "runs.zip")

    columns = ("example", "loss", "target_tokens", "correct_tokens", "exact_match")
    assert [("0", "1.5", "4", "1", "0"), ("1", "0.5", "2", "2", "")] == [
        tuple(row[name] for name in columns) for row in rows
    ]
    assert ("", "0.5", "0.0", "1") == tuple(
        summary[name]
        for name in ("token_accuracy_before", "token_accuracy_after", "exact_match_after", "exact_match_examples")
    )


def test_of_a_run_that_counted_nothing_an_export_has_empty_cells(tmp_path):
    store = RunStore(tmp_path / "a")
    run_id = one_run(store)
    losses = {"example_losses": (1.5, 0.5)}
    evaluated = Evaluated(time=2.0, when="after", loss=1.2, tokens=6, examples=2, seconds=1.0, **losses)
    for event in (STARTED, evaluated, DONE):
        store.append(run_id, event)

    rows = exported(store, run_id, "losses.csv", tmp_path / "runs.zip")

    assert [("", "", "")] * 2 == [
        tuple(row[name] for name in ("target_tokens", "correct_tokens", "exact_match")) for row in rows
    ]


def test_what_has_not_ended_is_not_exported(tmp_path):
    store = RunStore(tmp_path)

    with pytest.raises(InvalidSettingError, match="None of these runs has ended"):
        export_runs([store], [one_run(store)], tmp_path / "runs.zip")


def test_an_import_overwrites_nothing(tmp_path):
    store = RunStore(tmp_path / "home")
    archive = export_runs([store], [ended_run(store)], tmp_path / "runs.zip")

    with pytest.raises(InvalidSettingError, match="is here already"):
        import_runs(store, archive)


def request_json(run_id: str) -> str:
    (run,) = questions.sweep(ranks=(8,)).runs(sweep_id="s", created_at=1.0)
    return request_text(replace(run, run_id=run_id))


CANCELLED = '{"event": "RunCancelled", "time": 1.0}\n'


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"runs/../../evil/request.json": request_json("evil")}, "no RankViz export"),
        ({"/etc/request.json": "{}"}, "no RankViz export"),
        ({"runs/a/adapter/adapter_model.safetensors": "x"}, "no RankViz export"),
        ({"runs/a/request.json": request_json("a")}, "has not ended"),
        ({"runs/a/request.json": request_json("b"), "runs/a/events.jsonl": CANCELLED}, "calls itself 'b'"),
        ({"runs/a/request.json": "{}", "runs/a/events.jsonl": CANCELLED}, "no readable request"),
        ({"runs/a/events.jsonl": CANCELLED}, "no readable request"),
        (
            {"runs/a/request.json": request_json("a").replace('"r": 8', '"r": -3'), "runs/a/events.jsonl": CANCELLED},
            r"Run 'a' in the zip cannot be read, so nothing was imported. Rank must be .* \(got -3\)",
        ),
        ({"summary.csv": ""}, "holds no runs"),
        ({"runs/a/events.jsonl": "x" * (200 * 10**6 + 1)}, "unpacks to more than 200 times its size"),
    ],
)
def test_a_zip_that_is_no_export_is_refused_whole(tmp_path, members, message):
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("runs/good/request.json", request_json("good"))
        opened.writestr("runs/good/events.jsonl", CANCELLED)
        if message == "holds no runs":
            opened.close()
            opened = zipfile.ZipFile(archive, "w")
        for name, text in members.items():
            opened.writestr(name, text)
        opened.close()
    store = RunStore(tmp_path / "home")

    with pytest.raises((InvalidSettingError, LimitError), match=message):
        import_runs(store, archive)

    assert [] == store.all()


def test_a_file_that_is_no_zip_is_said_to_be_none(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")

    with pytest.raises(InvalidSettingError, match=r"notes\.txt cannot be read as a RankViz export"):
        import_runs(RunStore(tmp_path), tmp_path / "notes.txt")


def test_runs_of_two_stores_go_into_one_zip(tmp_path):
    shipped, own = RunStore(tmp_path / "shipped"), RunStore(tmp_path / "own")
    ids = [ended_run(shipped), ended_run(own)]

    with zipfile.ZipFile(export_runs([shipped, own], ids, tmp_path / "runs.zip")) as archive:
        assert {f"runs/{run_id}/events.jsonl" for run_id in ids} <= set(archive.namelist())
    with pytest.raises(RunNotFoundError):
        export_runs([shipped, own], ["nowhere"], tmp_path / "runs.zip")


class Unread(RunStore):
    """Whose journals nobody may read."""

    def all(self):
        raise AssertionError("all of its journals were read")


def test_a_run_is_exported_without_a_look_into_the_journals_of_other_stores(tmp_path):
    homes = [tmp_path / "shipped", tmp_path / "own"]
    ids = [ended_run(RunStore(home)) for home in homes]

    with zipfile.ZipFile(export_runs([Unread(home) for home in homes], ids, tmp_path / "runs.zip")) as archive:
        assert {f"runs/{run_id}/events.jsonl" for run_id in ids} <= set(archive.namelist())


def test_an_export_of_a_run_that_is_removed_meanwhile_says_so_and_leaves_nothing(tmp_path):
    here = RunStore(tmp_path / "here")
    (run_id,) = here.run_ids(here.create(questions.sweep(ranks=(4,))))
    here.append(run_id, RunCancelled(time=1.0))
    here.record(run_id)
    (here.run_dir(run_id) / "request.json").unlink()

    with pytest.raises(RunNotFoundError, match=run_id):
        export_runs([here], [run_id], tmp_path / "runs.zip")

    assert not (tmp_path / "runs.zip").exists()
