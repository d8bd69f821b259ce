"""The data of a packed job: read once for all of its runs, and never as a whole."""

import tracemalloc

from rankviz.core.runs.events import Attempt
from rankviz.jobs import Job
from rankviz.jobs.bundle import pack
from rankviz.store import RunStore
from tests.support.processes.opened_files import opened_files
from tests.support.runs import questions

ROW = '{"prompt": "a", "completion": "b"}\n'


def queued(store, file, *ranks: int) -> list[str]:
    """A sweep on this data."""
    return store.run_ids(store.create(questions.sweep(ranks=ranks, data=str(store.keep(file)))))


def packed(store, run_ids, folder) -> list[str]:
    """Where the data of each run lies in the folder."""
    pack(store, Job(attempts=tuple(Attempt(run_id, 1) for run_id in run_ids)), folder, engine="far")
    return [RunStore(folder).get(run_id).request.data for run_id in run_ids]


def test_data_is_read_once_for_all_runs_and_in_pieces(store, tmp_path):
    (tmp_path / "rows.jsonl").write_text(ROW * 400_000)
    run_ids = queued(store, tmp_path / "rows.jsonl", 4, 8, 16)

    tracemalloc.start()
    with opened_files(store.home) as opened:
        data = packed(store, run_ids, tmp_path / "sent")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 1 == len(set(data))
    assert 1 == sum(path.endswith("rows.jsonl") for path in opened)
    assert peak < (tmp_path / "sent" / data[0]).stat().st_size / 2


def test_runs_of_the_same_and_of_other_data_travel_together(store, tmp_path):
    contents = {"a.jsonl": ROW, "b.jsonl": ROW, "c.txt": ROW, "d.jsonl": ROW * 2}
    for name, rows in contents.items():
        (tmp_path / name).write_text(rows)
    run_ids = [run_id for name in contents for run_id in queued(store, tmp_path / name, 4)]

    a, b, c, d = packed(store, run_ids, tmp_path / "sent")

    assert a == b
    assert [ROW, ROW, ROW * 2] == [(tmp_path / "sent" / path).read_text() for path in (a, c, d)]
    assert {a, c, d} == {str(path.relative_to(tmp_path / "sent")) for path in (tmp_path / "sent/data").rglob("*.*")}
