"""What the commands of runs print as tables, on finished sweeps: an ordinary one and a fast curve."""

import contextlib
import io
import shutil

import pytest

from rankviz.api import Api
from rankviz.cli.runs.output import print_sweep
from rankviz.cli.shared import MOST_STYLED, plain_table, table
from rankviz.paths import ASSETS
from tests.cli.command import rankviz

RECORDED = sorted((ASSETS / "recorded" / "runs").iterdir())
SWEEP, FAST = "20261125-110136-ad44", "20261125-102247-feeb"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A runs folder with the recorded runs as its own."""
    folder = tmp_path_factory.mktemp("home")
    for run in RECORDED:
        shutil.copytree(run, folder / "runs" / run.name)
    return folder


def test_runs_list_has_a_row_for_every_run(home):
    printed = rankviz("runs", "list", home=home)

    assert 0 == printed.returncode, printed.stderr
    assert len(RECORDED) == sum(run.name in printed.stdout for run in RECORDED)
    assert "0.001" in printed.stdout


def test_runs_show_has_the_settings_and_the_measurements(home):
    run = RECORDED[0].name

    printed = rankviz("runs", "show", run, home=home)

    assert 0 == printed.returncode, printed.stderr
    assert run in printed.stdout and "{" not in printed.stdout


@pytest.mark.parametrize(("sweep_id", "words"), [(SWEEP, "r = 2"), (FAST, "Fast curve")])
def test_a_finished_sweep_is_printed_as_tables_and_a_verdict(home, sweep_id, words):
    api, printed = Api(home=home), io.StringIO()

    with contextlib.redirect_stdout(printed):
        print_sweep(api, sweep_id)

    assert words in printed.getvalue()
    assert api.runs.sweep(sweep_id).runs[0].run_id in printed.getvalue()


def test_a_table_of_many_rows_reads_as_one_of_few():
    columns, rows = ["Run", "State", "r"], [["a-1", "completed", "4"], ["b", "é漢字", ""], ["", "queued", "16"]]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        table("3 runs", columns, rows)

    assert printed.getvalue() == plain_table("3 runs", columns, rows)


def test_a_table_of_many_rows_is_plain_whatever_is_in_its_cells():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        table("many", ["Run"], [["[red]a[/red]"], ["b\nc\x1b[2J"], *[["d"]] * MOST_STYLED], notes=["a note"])

    assert "  [red]a[/red]  \n  b\\nc\\x1b[2J" in printed.getvalue()
    assert printed.getvalue().endswith("- a note\n")
