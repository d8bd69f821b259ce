"""Probes in true worker processes, on models so small that importing is what takes time."""

import json
from pathlib import Path

import psutil
import pytest

from rankviz.api import Api
from rankviz.core.probe import sentences
from rankviz.core.runs.record import RunState
from rankviz.jobs.local import COMMANDS
from rankviz.worker.introspect.layers import cut_config
from rankviz.worker.probe import memory_limit, write_random_base
from tests.support.models.tiny_llama import LLAMA
from tests.support.processes.workers import Patient
from tests.support.runs import probes, questions
from tests.support.runs.toy import ASSETS

pytestmark = pytest.mark.torch

TINY = LLAMA | {"num_hidden_layers": 6, "max_position_embeddings": 512, "tie_word_embeddings": True}
BLOCK_ADAPTER = 8 * (2 * 128 + 2 * 96 + 3 * 192)
"""r 8: q and o 64 + 64, k and v 64 + 32, gate, up, down 64 + 128."""


def probe(folder: Path, *, config=TINY, command=COMMANDS["probe"], **settings):
    """The record of a probe that has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    api = Api(home=folder / "home", assets=ASSETS)
    api.workspace.supervisor = Patient(api.workspace.store, probe=command)
    settings = {"r": 8, "depths": (2, 4), "max_length": 16, "timed_steps": 2, **settings}
    probe_id = api.machine.start_probe(questions.probe(str(path), **settings))
    *_, record = api.machine.follow_probe(probe_id, 0.05)
    api.workspace.supervisor.finish()
    return api, record


def test_two_depths_are_measured_in_processes_of_their_own_and_extrapolated(tmp_path):
    _, record = probe(tmp_path)

    assert RunState.COMPLETED is record.state, record.error + record.log_tail
    assert (2, 4) == tuple(each.depth for each in record.measured)
    # embeddings 320 · 64, a block's weights 2 · 64 · 64 + 2 · 64 · 32 + 3 · 64 · 128, its norms and the last
    block = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    for each in record.measured:
        assert each.depth * BLOCK_ADAPTER == each.trainable_parameters
        assert 320 * 64 + each.depth * block + 64 == each.total_parameters
        assert {"forward", "backward", "optimizer"} == set(each.moments)
        assert 0 < each.peak_bytes < 2**31
        assert len(each.timed_steps) >= 2
        assert 16 == each.tokens_per_step
    assert 6 * BLOCK_ADAPTER == record.extrapolated.trainable_parameters
    assert "cpu" == record.environment["device"]
    assert "unsloth" in record.environment["versions"]


def test_without_unsloth_the_same_adapter_is_trained_and_unsloth_is_not_imported(tmp_path):
    api, record = probe(tmp_path, framework="peft", precision="bf16", depths=(2,))

    assert RunState.COMPLETED is record.state, record.error + record.log_tail
    assert [2 * BLOCK_ADAPTER] == [each.trainable_parameters for each in record.measured]
    assert "Unsloth 2" not in (api.workspace.store.run_dir(record.run_id) / "worker.log").read_text()


def test_memory_that_runs_out_is_a_result_and_leaves_no_process(tmp_path):
    _, record = probe(tmp_path, memory_limit_bytes=64 * 2**20, framework="peft")

    assert RunState.COMPLETED is record.state, record.error + record.log_tail
    assert () == record.measured
    (unfit,) = record.did_not_fit
    assert (2, "memory limit", 64 * 2**20) == (unfit.depth, unfit.why, unfit.limit_bytes)
    assert unfit.short_bytes > 0
    assert "does not fit the memory limit of 64 MiB, by at least" in sentences(record)[0]
    assert [] == [p for p in psutil.process_iter(["cmdline"]) if record.run_id in (p.info["cmdline"] or [])]


NEMOTRON = "nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
CUT = {"Qwen__Qwen3-Next-80B-A3B-Instruct": 4, "google__gemma-4-E2B": 20, NEMOTRON: 6}


@pytest.mark.parametrize(("name", "depth"), CUT.items())
def test_a_cut_config_builds_the_first_blocks_of_the_model_and_nothing_else(name, depth):
    from rankviz.worker.introspect.layers import facts

    config = json.loads((ASSETS / "configs" / f"{name}.json").read_text())

    whole, cut = facts(config), facts(cut_config(config, depth))

    def first_blocks(layers):
        kept = [{**layer, "blocks": [b for b in layer["blocks"] if b < depth]} for layer in layers]
        return [layer for layer in kept if layer["blocks"] or "{}" not in layer["path"]]

    def other(layers):
        # A table with a column for each block (Gemma's per-layer inputs) is as wide as the model is deep.
        return sorted(str(layer) for layer in layers if "per_layer" not in layer["path"])

    assert other(first_blocks(whole["layers"])) == other(cut["layers"])
    assert depth == cut["num_hidden_layers"]


def test_a_random_base_is_read_back_whole_and_is_neither_zero_nor_denormal(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    write_random_base(TINY, 2, tmp_path / "base")
    model, loading = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", dtype=torch.float32, output_loading_info=True
    )

    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    weight = model.model.layers[1].mlp.up_proj.weight
    assert 0.02 == pytest.approx(weight.std().item(), rel=0.05)
    assert 1.0 == model.model.norm.weight.mean().item()
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7]])).logits
    assert torch.isfinite(logits).all() and 0 < logits.std()


def test_the_limit_is_the_processs_on_a_cpu_and_the_cards_on_a_gpu():
    """torch for CUDA takes some GiB of the machine's own memory before anything is loaded."""
    request = probes.request(shared=False, memory_limit_bytes=2**26)

    assert 2**26 == memory_limit(request, cuda=False)
    assert memory_limit(request, cuda=True) > 2**28


def test_time_that_runs_out_before_two_depths_fails_the_probe(tmp_path):
    _, record = probe(tmp_path, time_limit_seconds=1.0, framework="peft")

    assert RunState.FAILED is record.state
    assert record.error.startswith("The time limit of 1.0 s was reached with 2 blocks (")
