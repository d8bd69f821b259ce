"""The quick look on the command line: refusals, and one on a tiny model from its start to an added run."""

import json

import pytest

from tests.cli.command import rankviz
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data

LOOK = ("sweep", "embedded", "--data", "phonemes", "--quick")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--fast",), "--quick includes what --fast does: give one of them."),
        (("--seeds", "3"), "--quick takes one seed (got 3)."),
        (("-r", "4", "-r", "16", "-r", "64"), "A quick look trains two ranks, such as 4 and 64 (got 3)."),
        (("--alpha", "2r"), "A quick look needs a fixed alpha, such as 32 (got 2r)"),
        (("--anchor", "2"), "--anchor needs --fast."),
        (("--rate-first",), "--rate-first comes before --quick and --fast: give one of them."),
    ],
)
def test_what_is_no_quick_look_is_one_line_and_exit_code_2(args, sentence, tmp_path):
    run = rankviz(*LOOK, *args, home=tmp_path)

    assert (2, "") == (run.returncode, run.stdout)
    assert 1 == len(run.stderr.splitlines())
    assert sentence in run.stderr


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

    assert "3 runs, the highest rank truncated to 3 lower ranks, on " in run.stderr
    assert [(2, "completed"), (8, "completed"), (2, "completed")] == [
        (each["r"], each["state"]) for each in look["runs"]
    ]
    assert [1, 2, 4, 8] == [point["r"] for point in look["cuts"]]
    assert [2, 4, 8] == [rank["r"] for rank in look["forecast"]["ranks"]]
    measured = [rank["measured"] for rank in look["forecast"]["ranks"] if rank["measured"]]
    first, high, repeat = (each["loss_after"] for each in look["runs"])
    assert [(first + repeat) / 2, high] == pytest.approx(measured, abs=1e-4)
    assert look["forecast"]["noise_nats"] == pytest.approx(abs(first - repeat) / 2**0.5, rel=0.01)
    assert all(rank["low_80"] < rank["high_80"] for rank in look["forecast"]["ranks"])
    assert {"r", "sentences"} <= set(look["decision"]["train"]) & set(look["decision"]["ship"])
    assert (0, f"{look['sweep_id']}-004-r4") == (added.returncode, added.stdout.strip())
    assert [2, 8, 2, 4] == [each["r"] for each in after["runs"]]
    assert look["runs"] == after["runs"][:3]
    assert 1 == len({each["loss_before"] for each in after["runs"]})
    assert [4] == [rank["r"] for rank in after["forecast"]["ranks"] if rank["r"] == 4 and rank["measured"]]
    assert "To train next: " in printed and "To ship: " in printed
