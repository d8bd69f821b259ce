"""Runs exported into a zip and imported, and zips made by hand: bounded, and nobody else's run changes."""

import csv
import errno
import io
import json
import re
import shutil
import zipfile
from dataclasses import replace

import pytest

from rankviz.core.runs.events import Evaluated, RunCancelled
from rankviz.errors import InvalidSettingError, LimitError, UserError
from rankviz.paths import ASSETS
from rankviz.store import ImportLimits, RunStore, export_runs, publish_imported, recorded
from rankviz.store.journal import Ownership, request_text
from rankviz.store.transfer import LOSSES, SUMMARY
from tests.store.written_runs import DONE, STARTED, one_run, step
from tests.support.runs import questions
from tests.support.runs.finished_runs import import_runs
from tests.support.runs.probes import request as probe_request


def test_exported_runs_come_in_again_elsewhere_with_tables_of_what_each_example_counted(tmp_path):
    here, there = RunStore(tmp_path / "here"), RunStore(tmp_path / "there")
    run_ids = [one_run(here), one_run(here)]
    counts = {"correct_tokens": 3, "example_tokens": (4, 2), "example_correct_tokens": (1, 2)}
    counts |= {"example_exact_matches": (0, None), "example_losses": (1.5, 0.5)}
    evaluated = Evaluated(time=2.0, when="after", loss=1.2, tokens=6, examples=2, seconds=1.0, **counts)
    for run_id in run_ids:
        here.append(run_id, STARTED, step(1), evaluated, DONE)

    archive = export_runs([here], run_ids, tmp_path / "runs.zip")

    assert run_ids == import_runs(there, archive)
    assert here.all() == there.all()
    with zipfile.ZipFile(archive) as opened:
        rows, (row, _) = (list(csv.DictReader(io.TextIOWrapper(opened.open(each)))) for each in (LOSSES, SUMMARY))
    columns = ("example", "loss", "target_tokens", "correct_tokens", "exact_match")
    assert [("0", "1.5", "4", "1", "0"), ("1", "0.5", "2", "2", "")] * 2 == [(*map(row.get, columns),) for row in rows]
    columns = ("token_accuracy_before", "token_accuracy_after", "exact_match_after", "exact_match_examples")
    assert ("", "0.5", "0.0", "1", "100") == tuple(map(row.get, (*columns, "peak_memory_bytes")))


CANCELLED = '{"event": "RunCancelled", "time": 1.0}\n'
MEASURED = {"event": "Evaluated", "time": 1, "when": "after", "loss": 2.0, "tokens": 9, "examples": 3, "seconds": 1}


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
        ({"runs/a/request.json": " " * 1_000_001}, "larger than 1,000,000 bytes"),
        ({"runs/a/request.json": request_text(probe_request("a"))}, "'a' in the zip is a probe"),
    ],
)
def test_a_zip_that_is_no_export_is_refused_whole(store, tmp_path, members, message):
    archive = made(tmp_path, *([] if message == "holds no runs" else [("good", "s")]), more=members.items())

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
def test_what_would_be_queued_here_is_not_imported(store, tmp_path, journal):
    with pytest.raises(InvalidSettingError, match="has not ended"):
        import_runs(store, made(tmp_path, ("a", "s"), journal=journal))

    assert [] == store.all()


@pytest.mark.parametrize(
    ("run_id", "sweep_id"),
    [("theirs", "new"), ("THEIRS", "new"), ("Sweep", "new"), ("b", "sweep"), ("b", "theirs"), ("b", "b")],
)
def test_a_name_of_a_run_or_a_sweep_of_another_is_not_taken_a_second_time(store, tmp_path, run_id, sweep_id):
    import_runs(store, made(tmp_path, ("theirs", "sweep")), ownership=Ownership("ann"))

    for other in ("aaron", "ben"):
        with pytest.raises(InvalidSettingError, match="nothing was imported"):
            import_runs(store, made(tmp_path, (run_id, sweep_id)), ownership=Ownership(other))

    assert ["theirs"] == [record.run_id for record in store.all()]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_run_that_joins_a_sweep_is_as_open_as_it_is(store, tmp_path, is_open):
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
    journal = CANCELLED * 2 + '{"a": [1]}\n'  # 4, 4 and 3 names and values
    two = made(tmp_path, ("a", "s"), ("b", "s"), journal=journal, more=[("runs/", ""), ("losses.csv", "")])
    store, size = RunStore(tmp_path), 2 * len(request() + journal)
    exact = ImportLimits(runs=2, events=3, unpacked_bytes=size, values=22)

    for message, limits in {
        "more than 1 runs": exact._replace(runs=1),
        "3 events; at most 2": exact._replace(events=2),
        "unpacks to more than 0 MB": exact._replace(unpacked_bytes=size - 1),
        "more than 21 values": exact._replace(values=21),
    }.items():
        with pytest.raises(LimitError, match=message):
            import_runs(store, two, limits=limits)
        assert [] == store.all()
    assert ["a", "b"] == import_runs(store, two, limits=exact)


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
        ([(f"runs/r{n}/events.jsonl", "") for n in range(4095)], zipfile.ZIP_STORED, "4,097 files, at most 4,096"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_is_larger_than_it_looks_is_refused(tmp_path, more, packing, message):
    path = made(tmp_path, ("a", "s"), packing=packing, more=more)

    with pytest.raises((InvalidSettingError, LimitError), match=message):
        import_runs(RunStore(tmp_path), path)


def test_a_line_that_is_no_event_comes_in_empty_and_one_that_is_without_what_no_event_has(store, tmp_path):
    nested = json.dumps({"event": "X", "a": [{}] * 100_000})
    stage = {"event": "StageReached", "time": 1, "stage": "loading", "more": [{}] * 1000}

    import_runs(store, made(tmp_path, ("a", "s"), journal=f"{nested}\n{json.dumps(stage)}\n{CANCELLED}"))

    journal = (store.run_dir("a") / "events.jsonl").read_bytes()
    first, written, last = journal.splitlines()
    assert (b"", b'{"event": "StageReached", "time": 1, "stage": "loading"}') == (first, written)
    assert "RunCancelled" == json.loads(last)["event"]
    assert (1, "loading") == (store.get("a").unreadable_lines, store.get("a").stage)


BEGUN = {"event": "RunStarted", "time": 1, "environment": {"target_modules": ["q_proj"] * 50}}
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


@pytest.mark.parametrize("names", ["nothing", "queued", "ended deleted", "ended full"])
def test_of_an_export_that_fails_no_file_stays(tmp_path, names):
    store, target = RunStore(tmp_path), tmp_path / "runs.zip"
    import_runs(store, made(tmp_path, ("ended", "s"), ("deleted", "s"), ("full", "s")))
    store.add([replace(store.get("ended").request, run_id="queued")])

    def meanwhile(item):
        shutil.rmtree(store.run_dir("deleted"), ignore_errors=True)
        if "full" in names and isinstance(item, RunCancelled):
            raise OSError(errno.ENOSPC, "the disk is full")
        return item

    with pytest.raises((OSError, UserError), match=f"{names.split()[-1]}|None of these runs has ended yet"):
        export_runs([store], names.split(), target, meanwhile)
    assert not target.exists()


def test_runs_of_rankviz_itself_take_far_less_memory_than_a_shared_page_allows(tmp_path):
    run_ids = [run.run_id for sweep in recorded(ASSETS) for run in sweep.runs]
    path = export_runs([RunStore(ASSETS / "recorded")], run_ids, tmp_path / "a.zip")

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
