"""The command line, as others script against it: exit codes, one line on stderr, few imports, and files."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz import __version__
from rankviz.api import Api
from rankviz.cli.commands import COMMANDS
from rankviz.cli.runs import plot_sweep
from tests.cli.command import ROOT, rankviz
from tests.support.runs.finished_runs import finished


def test_models_are_searched_gpus_listed_and_the_skill_printed(tmp_path):
    few = rankviz("models", "QWEN3", "4b", "--limit", "1", "--json", home=tmp_path)
    table, none = rankviz("models", "qwen3", "4b", home=tmp_path), rankviz("models", "no such", home=tmp_path)
    cards, skill = rankviz("gpus", "--json", home=tmp_path), rankviz("skill", home=tmp_path)

    assert 1 == len(json.loads(few.stdout)) and "more: give more words" in few.stderr
    assert "Qwen/Qwen3-4B" in table.stdout and "No model of the catalogue" in none.stdout
    (l4,) = [row for row in json.loads(cards.stdout) if row["id"] == "l4"]
    assert 24_000_000_000 == l4["memory_bytes"] and {"provider", "source", "checked"} < l4["prices"][0].keys()
    for command in re.findall(r"`rankviz (\w+)", skill.stdout):
        assert command in COMMANDS or "COMMAND" == command


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("estimate", "Qwen3-4Bx"), "Did you mean 'Qwen/Qwen3-4B'"),
        (("fit", "Qwen/Qwen3-4B", "-r", "8", "-r", "16"), "give -r once"),
        (("runs", "show", "nothing"), "rankviz runs list"),
        (("verdict", "losses.csv", "--tolerance", "2%"), "needs --base-loss"),
        (("probe", "Qwen/Qwen3-4B", "--gpu", "L4"), "names the GPU of --simulate"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(args, sentence, tmp_path):
    run = rankviz(*args, home=tmp_path)

    assert 2 == run.returncode
    assert 1 == len(run.stderr.splitlines())
    assert sentence in run.stderr
    assert "" == run.stdout


def test_the_doctor_says_what_this_machine_trains_on_and_exits_with_1_where_training_would_fail(tmp_path):
    run = rankviz("doctor", "--quick", "--json", home=tmp_path / "home")
    hidden = (
        "import sys, importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'unsloth' else find(name, *a); "
        "sys.argv = ['rankviz', 'doctor', '--quick']; from rankviz.cli import main; main()"
    )
    environment = os.environ | {"RANKVIZ_HOME": str(tmp_path)}
    without = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, env=environment, capture_output=True, text=True)

    answer = json.loads(run.stdout)
    keys = {"ready", "device", "device_name", "device_memory_bytes", "driver", "torch", "torch_cuda", "checks"}
    assert keys == set(answer)
    assert {"trainer", "device", "bf16", "disk", "Hub"} <= {check["name"] for check in answer["checks"]}
    assert answer["ready"] == (0 == run.returncode)
    assert 1 == without.returncode, without.stderr
    assert "Not ready: 1 problem to solve first." in without.stdout


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        run = rankviz("serve", "--port", str(port), home=tmp_path)

    assert f"The page cannot be served at 127.0.0.1, port {port}: " in run.stderr and "--port" in run.stderr
    assert 2 == run.returncode


def test_a_data_file_is_measured_and_options_come_before_it(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "abcd", "completion": "abcd"}\n' * 16)

    measured = rankviz("estimate", "Qwen/Qwen3-4B", "--data", str(file), "--json")
    own = rankviz("estimate", "Qwen/Qwen3-4B", "--data", str(file), "--example-tokens", "3", "--epochs", "2", "--json")

    assert "rows.jsonl: 16 examples (prompt-completion)" in measured.stderr
    assert "Time and cost assume 1 epoch" in json.loads(measured.stdout)["notes"][0]
    assert (2, 8 * 2) == tuple(json.loads(measured.stdout)[name] for name in ("steps", "tokens_per_step"))
    assert (4, 8 * 3) == tuple(json.loads(own.stdout)[name] for name in ("steps", "tokens_per_step"))


ESTIMATE = ["rankviz", "estimate", "Qwen/Qwen3-4B", "-r", "16", "--gpu", "L4", "--json"]
HEAVY = {"torch", "numpy", "pandas", "plotly", "gradio", "huggingface_hub", "psutil"}


def test_an_estimate_loads_its_own_command_no_heavy_library_and_no_room_that_it_does_not_need():
    code = f"import sys; sys.argv = {ESTIMATE!r}; from rankviz.cli import main; main(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.splitlines()[-1].split())

    commands = {name for name in loaded if name.startswith("rankviz.cli.")}
    assert {f"rankviz.cli.{name}" for name in ("commands", "estimates", "shared")} == commands
    assert not loaded & {*HEAVY, "rich.table"}
    rooms = ("store", "hub", "verdict", "figures", "export", "ui", "settings")
    assert not {".".join(name.split(".")[:2]) for name in loaded} & {f"rankviz.{room}" for room in rooms}


LINES = (
    *("--version", "models", "estimate Qwen/Qwen3-4B -r 16 --gpu L4", "fit Qwen/Qwen3-4B -r 16 --gpu L4"),
    *("advise Qwen/Qwen3-4B", "forecast Qwen/Qwen3-4B", "export Qwen/Qwen3-4B -r 16", "validate ROWS", "evidence list"),
    *("spectrum sample --json", "gpus", "skill", "runs list", "serve -h", "verdict LOSSES", "runs show SWEEP"),
    "doctor --quick",
)
"""Every command that needs no torch; what only a later line may load comes last."""
SLOW = {"torch", "transformers", "pandas", "plotly", "gradio", "huggingface_hub", "pyarrow", "scipy", "asyncio"}
RUN = """
import contextlib, io, json, sys
from rankviz.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv, ended = ["rankviz", *words], None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            main()
        except SystemExit as end:
            ended = end.code
    print(json.dumps([words[0], ended, printed.getvalue(), sorted(sys.modules)]))
"""


def test_no_command_loads_a_slow_library_that_it_does_not_need(tmp_path):
    """In one process: a library appears with the first command that loads it."""
    losses = [f"{r},{s},{n},{1 + 0.1 * n + 0.01 * s * r}" for r in (4, 8) for s in (0, 1, 2) for n in range(8)]
    (tmp_path / "losses.csv").write_text("rank,seed,example,loss\n" + "\n".join(losses))
    rows = ROOT / "assets" / "validation" / "grpo" / "published.csv"
    named = {"LOSSES": tmp_path / "losses.csv", "ROWS": rows, "SWEEP": Api(home=tmp_path).runs.recorded()[0].sweep_id}
    lines = [[str(named.get(word, word)) for word in line.split()] for line in LINES]

    run = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(lines)],
        cwd=ROOT,
        env=os.environ | {"RANKVIZ_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    seen = [json.loads(line) for line in run.stdout.splitlines()]

    assert len(LINES) == len(seen), run.stderr
    slow = {name: SLOW & set(loaded) for name, _, _, loaded in seen}
    assert {"doctor": {"huggingface_hub"}} == {name: found for name, found in slow.items() if found}
    assert [] == [(name, ended, run.stderr) for name, ended, _, _ in seen if ended and name != "doctor"]
    assert f"rankviz {__version__}\n" == seen[0][2]
    assert "predicted but not counted" in next(printed for name, _, printed, _ in seen if name == "validate")


def test_a_shell_completes_commands_options_models_and_gpus(tmp_path):
    """As the script of Typer asks for it in bash."""
    for line, offered in (
        ("rankviz e", {"estimate", "evidence", "export"}),
        ("rankviz estimate --targ", {"--targets"}),
        ("rankviz estimate Qwen/Qwen3-", {"Qwen/Qwen3-4B", "Qwen/Qwen3-8B"}),
        ("rankviz estimate Qwen/Qwen3-4B --gpu l", {"l4"}),
        ("rankviz sweep embedded --precision nf", {"nf4", "nf4-dq"}),
    ):
        asks = {"_RANKVIZ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}

        assert offered <= set(rankviz(home=tmp_path, **asks).stdout.split())


EXPORT = ("export", "Qwen/Qwen3-4B", "-r", "8")


def test_an_export_writes_its_files_and_replaces_others_only_when_told_to(tmp_path):
    file, beside = tmp_path / "lf.yaml", tmp_path / "dataset_info.json"
    beside.write_text("{}")
    arguments = (*EXPORT, "--format", "llamafactory", "-o", str(file))

    refused = rankviz(*arguments)
    assert (2, False) == (refused.returncode, file.exists())
    assert "dataset_info.json is there already, with another content." in refused.stderr
    run = rankviz(*arguments, "--force")

    assert [str(file), str(beside)] == run.stdout.splitlines()
    assert {"train", "chats"} == set(json.loads(beside.read_text()))
    assert "lf.yaml" in file.read_text() and "llamafactory.yaml" not in file.read_text()


def test_a_notebook_in_the_callers_folder_is_filled_from_a_data_file_there_and_the_ending_says_the_kind(tmp_path):
    rows = [{"instruction": "Say the letter.", "input": letter, "output": letter * 3} for letter in "abcdefgh"]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ("--data", "mine.jsonl", "--epochs", "3", "-o", "train.ipynb")

    rankviz(*EXPORT, *files, home=tmp_path / "home", cwd=tmp_path)
    refused = rankviz(*EXPORT, "--format", "colab", "-o", str(tmp_path / "x.py"))

    cells = json.loads((tmp_path / "train.ipynb").read_text())["cells"]
    code = "".join("".join(cell["source"]) for cell in cells)
    assert all(text in code for text in ('data_file = "mine.jsonl"', 'form = "instruction"', "num_train_epochs=3,"))
    assert [] == list((tmp_path / "home").rglob("work/*"))
    assert "The format colab is a .ipynb file: choose a name that ends in .ipynb (got x.py)." in refused.stderr


def test_a_script_for_several_gpus_is_started_by_its_own_name_and_one_for_rewards_has_their_rate(tmp_path):
    several, rewards = ("--framework", "trl", "--gpus", "2"), ("--method", "grpo", "--use-case", "complex")

    run = rankviz(*EXPORT, *several, "-o", str(tmp_path / "mine.py"))

    assert "accelerate launch --config_file accelerate.yaml mine.py starts it" in run.stderr
    assert "learning_rate=5e-06," in rankviz(*EXPORT, *rewards).stdout


def figure_of(page: Path) -> tuple[list[dict], dict]:
    """The traces and the layout that a page draws."""
    call = re.search(r"Plotly\.newPlot\(\s*\"[\w-]+\",\s*", text := page.read_text(encoding="utf-8"))
    traces, end = json.JSONDecoder().raw_decode(text, call.end())
    layout, _ = json.JSONDecoder().raw_decode(text, text.index("{", end))
    return traces, layout


def test_estimates_and_sweeps_are_plotted(tmp_path):
    file, api = tmp_path / "memory.html", Api(tmp_path)

    run = rankviz("estimate", "Qwen/Qwen3-4B", "-r", 8, "-r", 64, "--json", "--plot", file, home=tmp_path)
    plot_sweep(api, finished(api, {4: 2.0, 16: 1.5}), tmp_path / "sweep.html")

    assert [8, 64] == [rank["r"] for rank in json.loads(run.stdout)["ranks"]]
    assert f"Plot: {file}\n" == run.stderr
    traces, layout = figure_of(file)
    assert ["base weights", "adapter", "gradients"] == [trace["name"] for trace in traces][:3]
    assert "Memory by component and rank: Qwen/Qwen3-4B" in layout["title"]["text"]
    traces, layout = figure_of(tmp_path / "sweep.html")
    assert 2 == len(next(trace["x"] for trace in traces if trace["mode"] == "markers"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("plot.pdf", "The name of a plot file ends in .html, .png or .svg (got plot.pdf)."),
        ("mine.html", "mine.html is there already. Choose another, or add --force to replace it."),
    ],
)
def test_a_plot_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, name, sentence):
    (tmp_path / "mine.html").write_text("mine")

    run = rankviz("sweep", "embedded", "--data", "phonemes", "--plot", tmp_path / name, home=tmp_path / "home")

    assert (2, "") == (run.returncode, run.stdout)
    assert sentence in run.stderr
    assert not (tmp_path / "home" / "runs").exists()
