"""Runs exported into a zip and imported, and zips made by hand: bounded, and nobody else's run changes."""

import csv
import io
import json
import re
import zipfile
from dataclasses import replace

import pytest

from rankviz.core.runs.events import Evaluated
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.paths import ASSETS
from rankviz.store import ImportLimits, RunStore, export_runs, publish_imported, recorded
from rankviz.store.journal import request_text
from rankviz.store.ownership import Ownership
from tests.store.written_runs import DONE, STARTED, ended_run, one_run
from tests.support.runs import questions
from tests.support.runs.finished_runs import import_runs


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


CANCELLED = '{"event": "RunCancelled", "time": 1.0}\n'
MEASURED = {"event": "Evaluated", "time": 1, "when": "after", "loss": 2.0, "tokens": 9, "examples": 3, "seconds": 1}
ANSWER = {"place": 0, "prompt": "", "reference": "", "text": "", "ended": True}


def request(run_id="a", sweep_id="s"):
    (run,) = questions.sweep(ranks=(8,)).runs(sweep_id=sweep_id, created_at=1.0)
    return request_text(replace(run, run_id=run_id))


def made(tmp_path, *runs, journal=CANCELLED, packing=zipfile.ZIP_DEFLATED, more=()):
    """A zip of runs, each given as (id, sweep's id)."""
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        for run_id, sweep_id in runs:
            archive.writestr(f"runs/{run_id}/request.json", request(run_id, sweep_id))
            archive.writestr(f"runs/{run_id}/events.jsonl", journal)
        for name, content in more:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"runs/../../evil/request.json": request("evil")}, "no RankViz export"),
        ({"runs/a/adapter/adapter_model.safetensors": "x"}, "no RankViz export"),
        ({"runs/a/request.json": request("a")}, "has not ended"),
        ({"runs/a/request.json": request("b"), "runs/a/events.jsonl": CANCELLED}, "calls itself 'b'"),
        ({"runs/a/request.json": "{}", "runs/a/events.jsonl": CANCELLED}, "request.json"),
        (
            {"runs/a/request.json": request("a").replace('"r": 8', '"r": -3'), "runs/a/events.jsonl": CANCELLED},
            r"Run 'a' in the zip cannot be read, so nothing was imported. Rank must be .* \(got -3\)",
        ),
        ({"summary.csv": ""}, "holds no runs"),
        ({"runs/a/events.jsonl": "x" * (200 * 10**6 + 1)}, "unpacks to more than 200 MB"),
    ],
)
def test_a_zip_that_is_no_export_is_refused_whole(tmp_path, members, message):
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("runs/good/request.json", request("good"))
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


@pytest.mark.parametrize(
    "journal",
    [
        CANCELLED.strip(),
        CANCELLED.replace(" ", "\r").strip() + " ",
        CANCELLED + '{"event": "RunRequeued", "time": 2.0}\n',
        '{"event": "RunCancelled", "time": 1e300}\n',
    ],
)
def test_what_would_be_queued_here_is_not_imported(tmp_path, journal):
    store = RunStore(tmp_path)

    with pytest.raises(InvalidSettingError, match="has not ended"):
        import_runs(store, made(tmp_path, ("a", "s"), journal=journal))

    assert [] == store.all()


@pytest.mark.parametrize(
    ("run_id", "sweep_id"),
    [("theirs", "new"), ("THEIRS", "new"), ("Sweep", "new"), ("b", "sweep"), ("b", "theirs"), ("b", "b")],
)
def test_a_name_of_a_run_or_a_sweep_of_another_is_not_taken_a_second_time(tmp_path, run_id, sweep_id):
    store = RunStore(tmp_path)
    import_runs(store, made(tmp_path, ("theirs", "sweep")), ownership=Ownership("ann"))

    with pytest.raises(InvalidSettingError, match="nothing was imported"):
        import_runs(store, made(tmp_path, (run_id, sweep_id)), ownership=Ownership("ben"))

    assert ["theirs"] == [record.run_id for record in store.all()]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_run_that_joins_a_sweep_is_as_open_as_it_is(tmp_path, is_open):
    store = RunStore(tmp_path)
    import_runs(store, made(tmp_path, ("a", "s"), ("c", "other")), ownership=Ownership("ann"))
    store.open_to_all("s", is_open)
    store.open_to_all("other", not is_open)

    import_runs(store, made(tmp_path, ("b", "s"), ("d", "other"), ("e", "new")), ownership=Ownership("ann"))

    assert {"b": is_open, "d": not is_open, "e": False} == {name: store.ownership(name).is_open for name in "bde"}


@pytest.mark.parametrize("runs", [[("a", "s"), ("A", "s")], [("a", "s"), ("b", "S")], [("a", "s"), ("s", "t")]])
def test_no_name_of_a_zip_means_two_things(tmp_path, runs):
    with pytest.raises(InvalidSettingError, match="nothing was imported"):
        import_runs(RunStore(tmp_path), made(tmp_path, *runs))


def test_each_limit_of_an_import_is_named(tmp_path):
    store, two = RunStore(tmp_path), made(tmp_path, ("a", "s"), ("b", "s"), journal=CANCELLED * 3)

    with pytest.raises(LimitError, match="more than 1 runs"):
        import_runs(store, two, limits=ImportLimits(runs=1))
    with pytest.raises(LimitError, match="3 events; at most 2"):
        import_runs(store, two, limits=ImportLimits(events=2))
    with pytest.raises(LimitError, match="unpacks to more than 0 MB"):
        import_runs(store, two, limits=ImportLimits(unpacked_bytes=1000))
    assert [] == store.all()


@pytest.mark.parametrize("requeued", ['"AttemptPlaced", "engine": "ray", "attempt": 100001', '"RunRequeued"'])
def test_an_attempt_after_which_few_are_left_is_not_imported(tmp_path, requeued):
    store, one = RunStore(tmp_path), '{"event": "RunRequeued", "time": 1.0}\n'
    last = '{"event": "RunCancelled", "time": 1.0, "attempt": 100001}\n'
    journal = one * 100_000 if "RunRequeued" in requeued else f'{{"event": {requeued}, "time": 1.0}}\n'

    with pytest.raises(LimitError, match="was tried 100,001 times; at most 100,000 is allowed"):
        import_runs(store, made(tmp_path, ("a", "s"), journal=journal + last, packing=zipfile.ZIP_STORED))

    assert [] == store.all()


@pytest.mark.parametrize(
    ("more", "packing", "message"),
    [
        ([], zipfile.ZIP_BZIP2, "which no RankViz export does"),
        ([("runs/a/request.json", request())], zipfile.ZIP_STORED, "which no RankViz export does"),
        ([(f"runs/r{n}/events.jsonl", "") for n in range(5000)], zipfile.ZIP_STORED, "5,002 files"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_is_larger_than_it_looks_is_refused(tmp_path, more, packing, message):
    path = made(tmp_path, ("a", "s"), packing=packing, more=more)

    with pytest.raises((InvalidSettingError, LimitError), match=message):
        import_runs(RunStore(tmp_path), path)


def test_a_line_that_is_no_event_comes_in_empty_and_one_that_is_without_what_no_event_has(tmp_path):
    nested = json.dumps({"event": "X", "a": [{}] * 100_000})
    stage = {"event": "StageReached", "time": 1, "stage": "loading", "more": [{}] * 1000}
    store = RunStore(tmp_path)

    import_runs(store, made(tmp_path, ("a", "s"), journal=f"{nested}\n{json.dumps(stage)}\n{CANCELLED}"))

    journal = (store.run_dir("a") / "events.jsonl").read_bytes()
    first, written, last = journal.splitlines()
    assert (b"", b'{"event": "StageReached", "time": 1, "stage": "loading"}') == (first, written)
    assert "RunCancelled" == json.loads(last)["event"]
    assert (1, "loading") == (store.get("a").unreadable_lines, store.get("a").stage)


BEGUN = {"event": "RunStarted", "time": 1, "environment": {"target_modules": ["q_proj"] * 50}}
LINES = {
    "numbers of examples": MEASURED | {"example_losses": [1.0] * 100},
    "versions": BEGUN | {"environment": {"versions": {str(number): "1" for number in range(40)}}},
    "answers": {"event": "Answered", "time": 1, "when": "after", "seconds": 1, "answers": [ANSWER] * 10},
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_so_many_values_are_imported_at_once_whatever_they_are(tmp_path, line):
    path = made(tmp_path, ("a", "s"), ("b", "s"), journal=f"{json.dumps(line)}\n{CANCELLED}")

    with pytest.raises(LimitError, match="have more than 100 values together, the most that are imported at once"):
        import_runs(RunStore(tmp_path), path, limits=ImportLimits(values=100))
    assert ["a", "b"] == import_runs(RunStore(tmp_path), path, limits=ImportLimits(values=400))


KEPT = {
    "environment": [BEGUN | {"environment": {str(number): "x" * 900 for number in range(150)}}],
    "modules": [BEGUN | {"environment": {"target_modules": [str(number) for number in range(2000)]}}],
    "truncations": [MEASURED | {"event": "AdapterCut", "r": r, "example_losses": [1.0] * 9} for r in range(1, 300)],
}


@pytest.mark.parametrize("lines", KEPT.values(), ids=KEPT)
def test_a_run_that_would_take_much_memory_for_good_is_not_imported(tmp_path, lines):
    path = made(tmp_path, ("a", "s"), journal="".join(f"{json.dumps(line)}\n" for line in lines) + CANCELLED)

    with pytest.raises(LimitError, match=r"'a' in the zip takes \d{3},\d{3} bytes of memory.*at most 100,000"):
        import_runs(RunStore(tmp_path), path, limits=ImportLimits(record_bytes=100_000))
    assert ["a"] == import_runs(RunStore(tmp_path), path)


def test_runs_of_rankviz_itself_take_far_less_memory_than_a_shared_page_allows(tmp_path):
    ids = [sweep.sweep_id for sweep in recorded(ASSETS)]
    path = export_runs([RunStore(ASSETS / "recorded")], ids, tmp_path / "a.zip")

    assert import_runs(RunStore(tmp_path), path, limits=ImportLimits(record_bytes=25_000, values=100_000))


@pytest.mark.parametrize(("size", "message"), [(10**8, "cannot be read as a RankViz"), (10**8 + 1, "is over 100 MB")])
def test_a_zip_of_more_than_100_mb_is_not_opened(tmp_path, size, message):
    with (tmp_path / "a.zip").open("wb") as file:
        file.truncate(size)

    with pytest.raises((InvalidSettingError, LimitError), match=message):
        import_runs(RunStore(tmp_path), tmp_path / "a.zip")


@pytest.mark.parametrize("end", ["-r8", "x", "-" + "r" * 95])
def test_a_strangers_runs_get_names_of_their_own_of_at_most_100_characters(tmp_path, end):
    sweep_id = "s" * (99 - len(end))
    take = [
        (replace(questions.sweep(ranks=(8,)).runs(sweep_id=sweep_id, created_at=1.0)[0], run_id=sweep_id + end), b"")
    ]
    (own,), (other,) = (publish_imported(RunStore(tmp_path / who), take, strangers=[who]) for who in ("ann", "ben"))

    assert len(own) == len(other) <= 100 and own != other
    request = RunStore(tmp_path / "ann").record(own).request
    assert re.fullmatch("s{1,91}-[0-9a-f]{8}", request.sweep_id)
    assert own == request.sweep_id + end or re.fullmatch("s.{0,90}-[0-9a-f]{8}", own)
