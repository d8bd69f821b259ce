"""What the commands of runs print as tables, on finished sweeps: an ordinary one and a fast curve."""

import contextlib
import io
import shutil

import pytest

from rankviz.api import Api
from rankviz.cli.output import print_sweep
from rankviz.cli.shared import table
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


def test_a_table_shows_what_is_in_its_cells_as_it_is():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        table("[b]some[/b]", ["Run"], [["[red]a[/red]"], ["b\nc\x1b[2J"], ["é漢字"]], notes=["a note"])

    assert "[b]some[/b]" in printed.getvalue()
    assert all(cell in printed.getvalue() for cell in ("[red]a[/red]", "b\\nc\\x1b[2J", "é漢字"))
    assert printed.getvalue().endswith("- a note\n")
