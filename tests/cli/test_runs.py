"""`rankviz sweep` and `rankviz runs`: refusals, what is printed while runs train and afterwards, and publishing."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from rankviz.api import Api
from rankviz.cli import shared
from rankviz.cli.commands import app
from rankviz.cli.runs import facts, print_sweep, runs_show, sweep_json, watch
from rankviz.core.runs import events
from rankviz.paths import ASSETS
from tests.cli.command import rankviz
from tests.support.engines.hub_jobs import stand_in_hub
from tests.support.engines.hub_stand_in import TOKEN, hub_stand_in
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.runs import questions
from tests.support.runs.finished_runs import counted, finished
from tests.support.runs.published import trained

RECORDED = sorted((ASSETS / "recorded" / "runs").iterdir())
SWEEP, FAST = "20261125-110136-ad44", "20261125-102247-feeb"
START = ("sweep", "embedded", "--data", "phonemes")


@pytest.fixture
def api(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_HOME", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    return Api(home=tmp_path)


@pytest.fixture
def jobs(tmp_path):
    """A stand-in for the Hub, and the environment that leads to it."""
    with stand_in_hub(tmp_path / "hub") as hub:
        there = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_alice", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
        yield hub, there


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--quick", "--fast"), "exclude one another: give one of them."),
        (("--quick", "--seeds", "3"), "A quick look has one seed (got 3)."),
        (("--no-repeat",), "--no-repeat needs --quick."),
        (("--anchor", "2"), "Independent runs belong to a fast curve"),
        (("--engine", "ray"), "No Ray cluster is set up here. Set RANKVIZ_RAY_ADDRESS"),
        (("--flavor", "l4x1"), "flavor and spend need the engine hf-jobs."),
    ],
)
def test_a_sweep_that_cannot_be_is_one_line_and_exit_code_2_and_nothing_is_queued(args, sentence, tmp_path):
    run = rankviz(*START, *args, home=tmp_path)

    assert (2, "", 1) == (run.returncode, run.stdout, len(run.stderr.splitlines()))
    assert sentence in run.stderr
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.torch
def test_a_quick_look_trains_truncates_and_decides_and_takes_one_more_run(tmp_path):
    base, data = make_tiny_llama(tmp_path / "tiny-llama"), write_tiny_data(tmp_path / "letters.jsonl")
    options = ("--data", str(data), "--quick", "-r", "2", "-r", "8", "--steps", "6", "--lr", "1e-2", "--held-out", "16")

    run = rankviz("sweep", str(base), *options, "--json", home=tmp_path / "home", seconds=1200)
    assert 0 == run.returncode, run.stderr
    look = json.loads(run.stdout)
    added = rankviz("runs", "add", look["sweep_id"], "-r", "4", home=tmp_path / "home", seconds=1200)
    after = json.loads(rankviz("runs", "show", look["sweep_id"], "--json", home=tmp_path / "home").stdout)
    printed = rankviz("runs", "show", look["sweep_id"], home=tmp_path / "home").stdout

    assert "3 runs, the highest rank truncated to 2 lower ranks, on " in run.stderr
    assert [(2, "completed"), (8, "completed"), (2, "completed")] == [
        (each["r"], each["state"]) for each in look["runs"]
    ]
    assert [2, 4, 8] == [point["r"] for point in look["cuts"]]
    assert [2, 4, 8] == [rank["r"] for rank in look["forecast"]["ranks"]]
    measured = [rank["measured"] for rank in look["forecast"]["ranks"] if rank["measured"]]
    first, high, repeat = (each["loss_after"] for each in look["runs"])
    assert [(first + repeat) / 2, high] == pytest.approx(measured, abs=1e-4)
    assert look["forecast"]["noise_nats"] == pytest.approx(abs(first - repeat) / 2**0.5, rel=0.01)
    assert {"r", "sentences"} <= set(look["decision"]["train"]) & set(look["decision"]["ship"])
    assert (0, f"{look['sweep_id']}-004-r4") == (added.returncode, added.stdout.strip())
    assert [2, 8, 2, 4] == [each["r"] for each in after["runs"]]
    assert look["runs"] == after["runs"][:3]
    assert " so far: r = " in printed or "Train next: r = " in printed
    assert "Smallest good adapter: the run at r = " in printed


def test_hf_jobs_says_the_cost_first_and_an_account_without_credit_what_to_do(tmp_path, jobs):
    hub, there = jobs
    hub.refuses["POST /api/jobs/"] = (402, "Payment required")
    terms = ("-r", "4", "--engine", "hf-jobs", "--flavor", "l4x1", "--spend")

    run = rankviz(*START, *terms, "5", home=tmp_path / "home", **there)
    too_little = rankviz(*START, *terms, "0.05", home=tmp_path / "home", **there)
    without = rankviz(*START, *terms, "5", home=tmp_path / "home", **{**there, "HF_TOKEN": ""})

    assert (1, 2, 1) == (run.returncode, too_little.returncode, without.returncode)
    assert "1x Nvidia L4 (l4x1): $0.80 per hour today. Cost: $" in run.stderr
    assert "The limit of $5.00 ends the job after 6 h 5 min" in run.stderr and "it has no credit" in run.stderr
    assert "$0.05 does not pay for a job" in too_little.stderr
    assert "Set HF_TOKEN" in without.stderr
    assert {} == hub.jobs


@pytest.mark.parametrize(("sweep_id", "words"), [(SWEEP, "r = 2"), (FAST, "Fast curve")])
def test_a_finished_sweep_is_printed_as_tables_and_a_verdict(api, capsys, sweep_id, words):
    for run in RECORDED:
        shutil.copytree(run, api.workspace.home / "runs" / run.name)

    print_sweep(api, sweep_id)

    printed = capsys.readouterr().out
    assert words in printed and api.runs.sweep(sweep_id).runs[0].run_id in printed


def test_a_table_shows_cells_as_they_are_and_gives_a_terminal_no_commands(capsys):
    rows = [{"Run": cell} for cell in ("[red]a[/red]", "b\nc\x1b[2J", "é漢字")]
    shared.table("[b]some[/b]", rows, notes=["a note"])
    shared.grid([["Error", "no\x1b]0;luck " + "word " * 60]])
    printed = capsys.readouterr().out

    assert all(text in printed for text in ("[b]some[/b]", "[red]a[/red]", "b\\nc\\x1b[2J", "é漢字", "- a note\n"))
    assert "\x1b" not in printed and printed.splitlines()[-1].endswith("word word")


def test_accuracies_have_a_verdict_facts_and_keys(api, capsys):
    print_sweep(api, counted(api, {4: 60, 16: 80}).sweep_id)
    text = " ".join(capsys.readouterr().out.split())
    run = counted(api, {4: 60}).runs[0]
    shown = dict(facts(api, run, api.runs.row(run.run_id)))
    keys = ("token_accuracy_before", "token_accuracy_after", "exact_match_after", "exact_match_examples")
    known = sweep_json(api, counted(api, {4: 60}).sweep_id)["runs"][2]
    unknown = sweep_json(api, finished(api, {4: 2.0}).sweep_id)["runs"][0]

    assert "Token accuracy, higher is better: r = 16 is best" in text and "Exact match, higher is better: " in text
    assert "3.0 %, 60.0 %" == shown["Token accuracy before, after"]
    assert (0.03, 0.62, 0.5, 2) == tuple(known[key] for key in keys)
    assert (None,) * 4 == tuple(unknown[key] for key in keys)


def test_the_same_error_of_several_runs_is_said_once_and_names_them(api, capsys):
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(2, 4)))
    for run_id in store.run_ids(sweep_id):
        store.append(run_id, events.RunFailed(time=2.0, error="No\x1b[2J\nwheel."))

    print_sweep(api, sweep_id)

    printed = " ".join(capsys.readouterr().out.split())
    assert "2 runs failed (r = 2; r = 4): No" in printed and "\x1b" not in printed


def test_what_was_measured_stands_beside_its_estimate(api, capsys):
    sweep = finished(api, {4: 2.0})
    run = sweep.runs[0]
    shown, estimate = facts(api, run, api.runs.row(run.run_id)), api.runs.expected_run(run)

    print_sweep(api, sweep.sweep_id)

    assert "Training time" in capsys.readouterr().out
    assert shown["Estimated adapter"].startswith(f"{estimate.adapter_parameters:,}, ")
    assert f"({estimate.memory_kind})" in shown["Estimated memory"]
    assert estimate.timed_in_words in shown["Estimated time"]


def test_a_run_is_shown_with_its_folder_and_its_answers(api, capsys):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,)))
    (run_id,) = api.workspace.store.run_ids(sweep_id)
    prompt = {"place": 0, "prompt": "Spell:\ncat \x1b[2J", "reference": "K AE T"}
    for when, text, ended in (("before", "The cat", False), ("after", "K AE T", True)):
        answer = events.GreedyAnswer(**prompt, text=text, ended=ended)
        api.workspace.store.append(run_id, events.Answered(time=1.0, when=when, answers=(answer,), seconds=1.0))

    runs_show(run_id)

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"Folder {api.workspace.store.run_dir(run_id)}" in lines
    assert [r"Prompt Spell:\ncat \x1b[2J", "Reference K AE T", "Base The cat … (cut off)", "Trained K AE T"] == lines[
        -4:
    ]


def test_ctrl_c_says_how_to_see_the_runs_again_and_how_to_end_them(api, monkeypatch, capsys):
    def interrupted(sweep_id):
        raise KeyboardInterrupt

    monkeypatch.setattr(api.runs, "follow", interrupted)

    with pytest.raises(SystemExit, match="130"):
        watch(api, "20260101-000000-abcd")

    *_, last = capsys.readouterr().err.splitlines()
    assert "The runs go on. `rankviz runs watch 20260101-000000-abcd` shows them again, " in last


def test_runs_are_published_with_the_typed_token_or_the_machines(api, monkeypatch):
    sweep = trained(api)
    with hub_stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_TOKEN", "hf_ofAnotherAccount0123456789")

        def publish(*words, **settings):
            return CliRunner().invoke(app(), ["runs", "publish", *words], **settings)

        refused = publish(sweep.sweep_id, "--to", "hub-dataset", "--name", "ranks")
        assert "owner/name" in str(refused.exception) and [] == hub.asked
        done = publish(
            sweep.sweep_id, "--to", "hub-dataset", "--name", "alice/ranks", "--ask-token", "--json", input=TOKEN
        )
        assert {"url": f"{hub.url}/datasets/alice/ranks", "updated": False, "private": True} == json.loads(done.stdout)
        assert {TOKEN} == hub.tokens and TOKEN not in done.output
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        done = publish(sweep.runs[0].run_id, "--to", "hub-adapter", "--name", "alice/r4", "--public")
        assert f"Published (public): {hub.url}/alice/r4\n" == done.stdout
