"""How runs are printed where a terminal has little room."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.cli.output import Column, errors_in_words, print_facts, print_rows, print_sweep, runs_table
from rankviz.core.runs.events import AttemptPlaced, RunCancelled, RunFailed
from tests.support.runs import questions
from tests.support.runs.finished_runs import plain_sweep

ID = "20261127-021932-cb5d-001-r16"
COLUMNS = [
    Column("Run", [ID], is_text=True),
    Column("State", ["completed"], is_text=True),
    Column("Place", ["Hugging Face Jobs, l4x1, attempt 2"], 3, is_text=True),
    Column("r", ["16"], 1),
    Column("Loss after", ["5.6436"], 2),
    Column("Adapter file", ["134.6 kB"], 4),
    Column("Exact match", [""], 5),
]


@pytest.mark.parametrize("width", [20, 60, 80, 100, 120, 180, None])
def test_the_id_of_a_run_is_never_cut_and_no_line_is_wider_than_the_terminal(capsys, width):
    print_rows("1 run", COLUMNS, width)
    printed = capsys.readouterr().out

    assert ID in printed
    assert max(map(len, printed.splitlines())) <= max(width or 999, 2 + len(ID) + 2 + len("completed"))


@pytest.mark.parametrize(
    ("width", "left_out"), [(60, "Place, Adapter file"), (80, "Place"), (95, "Adapter file"), (120, "")]
)
def test_columns_without_room_are_named_and_empty_ones_are_not(capsys, width, left_out):
    print_rows("1 run", COLUMNS, width)
    printed = " ".join(capsys.readouterr().out.split())

    assert (f"No room here for: {left_out}. " in printed) is bool(left_out)
    assert "Exact match" not in printed


def test_the_runs_of_each_sweep_stand_below_its_base_and_data(tmp_path, capsys):
    sweeps = [plain_sweep({4: 2.0, 16: 1.5}), replace(plain_sweep({64: 1.5}), sweep_id="s2")]

    runs_table(Api(home=tmp_path), sweeps)
    lines = capsys.readouterr().out.splitlines()

    titles = [place for place, line in enumerate(lines) if line.startswith("SmolLM2-135M-Instruct on phonemes, r = ")]
    assert [3, 2] == [titles[1] - titles[0], len(lines) - 1 - titles[1]]
    assert "SmolLM2-135M-Instruct on phonemes, r = 64" == lines[titles[1]]


def test_a_pipe_gets_every_column_and_every_value_on_one_line(capsys):
    print_rows("1 run", COLUMNS, None)
    print_facts("Run r4", [("Sweep", ID), ("Error", "no luck " * 60)], None)
    printed = capsys.readouterr().out

    assert "Hugging Face Jobs, l4x1, attempt 2" in printed and "134.6 kB" in printed
    assert f"  Error  {'no luck ' * 60}".rstrip() in [line.rstrip() for line in printed.splitlines()]
    assert all(line == line.rstrip() for line in printed.splitlines() if "Error" not in line), "no room is filled up"


def failed(api, *errors):
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=tuple(2**n for n in range(1, len(errors) + 1))))
    for run_id, error in zip(store.run_ids(sweep_id), errors, strict=True):
        store.append(run_id, AttemptPlaced(time=1.0, attempt=1, engine="slurm", where="node-1"))
        store.append(run_id, RunFailed(time=2.0, error=error) if error else RunCancelled(time=2.0))
    return api.runs.sweep(sweep_id)


def test_what_a_failed_sweep_failed_with_is_said_once(tmp_path, capsys):
    sweep = failed(api := Api(home=tmp_path), "No wheel.", "No wheel.")

    print_sweep(api, sweep.sweep_id)
    printed = capsys.readouterr().out

    assert "2 runs failed: No wheel.\n" in printed
    assert 1 == printed.count("No wheel.")
    assert "Slurm cluster, node-1" in printed


def test_what_a_journal_says_gives_a_terminal_no_commands(tmp_path, capsys):
    print_rows("1 run", [Column("Run", [ID]), Column("Place", ["node\x1b[2J"], 1)], 80)
    print_facts("Run", [("Error", "no\x1b]0;luck")], 80)
    lines = errors_in_words(failed(Api(home=tmp_path), "no\x1b[2J\nluck"))

    assert "\x1b" not in capsys.readouterr().out
    assert ("\x1b" in lines[0], len(lines[0].splitlines())) == (False, 1)
