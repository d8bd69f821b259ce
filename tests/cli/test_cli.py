"""The command line, as others script against it: JSON keys, exit codes, one line on stderr, and few imports."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest

from rankviz.cli.commands import COMMANDS
from tests.cli.command import ROOT, rankviz


def test_an_estimate_as_json_has_the_contracts_keys_and_exact_numbers():
    run = rankviz("estimate", "meta-llama/Llama-3.1-8B", "-r", "16", "-r", "64", "--gpu", "L4", "--json")

    answer = json.loads(run.stdout)
    assert {"model_id", "total_parameters", "gpu", "ranks"} <= set(answer)
    assert 8_030_261_248 == answer["total_parameters"]
    first, second = answer["ranks"]
    # Worked out: 32 blocks × (q 8192 + k 5120 + v 5120 + o 8192 + gate, up, down 18432 each) × r.
    assert 16 * 32 * (8192 + 5120 + 5120 + 8192 + 3 * 18432) == first["adapter_parameters"]
    assert 4 * first["adapter_parameters"] == second["adapter_parameters"]
    memory = first["memory_bytes"]
    components = ("base_weights", "adapter", "gradients", "optimizer", "activations", "logits", "other")
    assert memory["allocated"] == sum(memory[name] for name in components)
    assert memory["low"] <= memory["device"] <= memory["high"]
    assert {"low", "expected", "high"} <= set(first["seconds"]) & set(first["usd"])
    assert first["fit"] in ("fits", "tight", "uncertain", "does_not_fit")
    assert 0 == run.returncode


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
