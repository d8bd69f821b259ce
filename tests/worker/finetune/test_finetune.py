"""Real runs through the true Unsloth path, on a tiny random Llama; slow ones on the embedded model."""

import json
import threading

import pytest

from rankviz.api import Api
from rankviz.core.runs.record import RunState
from rankviz.errors import UserError
from rankviz.references import Reference
from rankviz.trained.read import read_adapter
from rankviz.worker.finetune.data import HeldOutQuestion
from tests.support.limits import limit
from tests.support.models.tiny_llama import generated
from tests.support.models.tiny_models import COMMON, SHAPES
from tests.support.processes.answers import said_by

pytestmark = pytest.mark.torch


def parameters(r: int) -> int:
    """By hand: in each of 2 blocks r × (in + out), where that is 128 for q and o, 96 for k and v, 192 in the MLP."""
    return 2 * r * (2 * 128 + 2 * 96 + 3 * 192)


def test_a_sweep_trains_each_rank_and_the_held_out_loss_falls(swept):
    _, sweep = swept

    assert [RunState.COMPLETED] * 3 == [run.state for run in sweep.runs], [
        run.error + run.log_tail for run in sweep.runs
    ]
    for run in sweep.runs:
        assert list(range(1, 13)) == [step.step for step in run.steps]
        assert run.loss_after.loss < run.loss_before.loss - 0.3
        assert run.steps[-1].loss < run.steps[0].loss - 0.3


def test_trainable_parameters_and_file_size_are_those_of_the_adapter_on_disk(swept):
    from safetensors import safe_open

    store, sweep = swept
    for run, r in zip(sweep.runs, (4, 8, 16), strict=True):
        file = store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors"
        with safe_open(file, "pt") as tensors:
            saved = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118

        assert parameters(r) == run.trainable_parameters == saved
        assert file.stat().st_size == run.adapter_bytes


@pytest.fixture
def adapter(tiny):
    """A tiny Llama with an adapter of rank 6 that has learned something, as B is random here."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny)
    model = get_peft_model(base, LoraConfig(r=6, lora_alpha=12, target_modules=["q_proj", "down_proj"]))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_()
    return model


def updates(model):
    return {
        name: (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach()
        for name, layer in model.named_modules()
        if hasattr(layer, "lora_A")
    }


def test_a_cut_is_the_dense_svds_truncation_whatever_was_cut_before(adapter):
    import torch

    from rankviz.worker.finetune.training import truncation

    whole = updates(adapter)
    truncate = truncation(adapter)
    truncate(1)
    truncate(3)

    for name, update in updates(adapter).items():
        u, s, vh = torch.linalg.svd(whole[name])
        assert torch.allclose(update, u[:, :3] * s[:3] @ vh[:3], atol=1e-5)
        assert s[3] > 0.1


def test_a_run_with_cuts_draws_a_curve_and_saves_the_adapter_it_trained(swept):
    store, sweep = swept

    run = sweep.runs[-1]
    assert RunState.COMPLETED is run.state, run.error + run.log_tail
    assert [(8, 0, ""), (4, 2, "cuts/r4"), (1, 4, "cuts/r1")] == [(c.r, c.recovery_steps, c.path) for c in run.cuts]
    sizes = [(store.run_dir(run.run_id) / f"cuts/r{r}/adapter_model.safetensors").stat().st_size for r in (4, 1)]
    assert [None, *sizes] == [cut.file_bytes for cut in run.cuts]
    for r in (1, 4, 8):
        saved = read_adapter([Api(home=store.home).adapters.zip_of_rank(run.run_id, r)])
        assert {r} == {module.r for module in saved.modules}
    assert all(16 == len(cut.example_losses) for cut in run.cuts)
    assert run.loss_after.loss < run.loss_before.loss
    # most of what twelve steps learn on so small a task is in a few directions
    assert abs(run.cuts[0].loss - run.loss_after.loss) < 0.1 < abs(run.cuts[-1].loss - run.loss_before.loss)
    assert 16 * 2 * (2 * 128 + 2 * 96 + 3 * 192) == run.trainable_parameters
    assert run.adapter_bytes > 4 * run.trainable_parameters


def test_a_saved_adapter_names_its_base_as_others_find_it_and_no_folder_of_this_machine(adapter, tiny, tmp_path):
    from rankviz.worker.base import Base
    from rankviz.worker.finetune.training import save

    save(adapter, tmp_path, Base(name=str(tiny), is_local=True, published_as="owner/tiny"))

    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert "owner/tiny" == config["base_model_name_or_path"]
    written = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(written) >= 3
    assert not any(str(tiny).encode() in content for content in written)


PROMPTS = [[10 + 7 * i % 300 + j for j in range(length)] for i, length in enumerate((1, 4, 9, 2, 17, 5, 30, 3, 6, 8))]


@pytest.mark.parametrize("reference", [4, 52])
def test_an_answer_is_the_greedy_text_whatever_is_padded_and_says_whether_the_model_ended_it(
    answering, tokenizer, monkeypatch, reference
):
    """It ends a few tokens after its reference at the latest, and no setting of the checkpoint changes it."""
    from rankviz.worker.finetune.measure import answers

    expected = [generated(answering, prompt, reference + 8) for prompt in PROMPTS]
    questions = {i: HeldOutQuestion(prompt, [40] * reference) for i, prompt in enumerate(PROMPTS)}
    monkeypatch.setattr(answering.generation_config, "repetition_penalty", 1.5)

    written = answers(answering, tokenizer, questions)

    texts = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in expected]
    assert {i: (text, 2 in expected[i]) for i, text in enumerate(texts)} == written
    assert len(set(texts)) > 5
    assert sum(2 in tokens for tokens in expected) < len(PROMPTS)
    at_once = answers(answering, tokenizer, questions, seconds=0.0)
    assert [tokenizer.decode(tokens[:1], skip_special_tokens=True).strip() for tokens in expected] == [
        at_once[i][0] for i in questions
    ]


def test_an_answer_is_exact_where_its_text_is_the_references(answering, tokenizer):
    from rankviz.worker.finetune.measure import exact_matches

    own = {place: generated(answering, prompt, 60) for place, prompt in enumerate(PROMPTS)}
    ending = {place: answer for place, answer in own.items() if answer[-1] == 2 and len(answer) > 1}
    right = {place: HeldOutQuestion(PROMPTS[place], answer) for place, answer in ending.items()}
    wrong = {place + 20: HeldOutQuestion(PROMPTS[place], [100, *answer]) for place, answer in ending.items()}

    matches = exact_matches(answering, tokenizer, right | wrong, examples=30)

    assert len(ending) > 2
    assert [1 if i in right else 0 if i in wrong else None for i in range(30)] == list(matches)
    assert answering.training is False


def test_every_adapter_of_a_sweep_answers_the_same_prompts_and_the_base_answers_once(swept):
    _, sweep = swept

    evaluated = [each for run in sweep.runs for each in (run.loss_before, run.loss_after, *run.cuts)]
    assert [8] * 9 == [each.answered for each in evaluated]
    assert 1 == len({tuple(match is None for match in each.example_exact_matches) for each in evaluated})
    assert [False, True, True] == [run.loss_before.reused for run in sweep.runs]
    assert [True, False, False] == [run.loss_before.exact_match_seconds is not None for run in sweep.runs]


PROMPT = "3 d"


def test_a_prompt_is_answered_by_the_base_and_by_the_adapter_and_a_merged_model_answers_as_the_adapter(
    swept, tiny, tokenizer, tmp_path, monkeypatch
):
    """Also by an adapter that is truncated for it. What is not here is said, and who asked can stop it."""
    from transformers import AutoModelForCausalLM

    store, sweep = swept
    limit(monkeypatch, answer_tokens=24)
    monkeypatch.chdir(tmp_path)
    api, (_, _, run) = Api(home=store.home), sweep.runs
    answers = api.adapters.answer(run.run_id, 16, PROMPT)
    written = api.advice.export_of(sweep.sweep_id, 16, "merge")
    (tmp_path / "adapter").symlink_to(store.run_dir(run.run_id) / run.adapter_path)
    exec(compile(written.text.replace("bfloat16", "float32"), written.file_name, "exec"), {})

    ids = tokenizer(PROMPT)["input_ids"]
    for name, folder in (("base", tiny), ("adapter", tmp_path / "merged")):
        tokens = generated(AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), ids, 24)
        text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert [text, 2 in tokens] == answers[name]
    assert answers["base"] != answers["adapter"]
    assert answers["base"] == api.adapters.answer(run.run_id, 8, PROMPT)["base"]  # truncated for it
    threading.Timer(1.0, api.adapters.cancel_answers).start()
    with pytest.raises(UserError, match="Stopped"):
        api.adapters.answer(run.run_id, 16, PROMPT)
    monkeypatch.setattr(api.workspace.references, "base", lambda text: Reference("name", "embedded"))
    with pytest.raises(UserError, match="The base model embedded is not on this machine"):
        api.adapters.answer(run.run_id, 16, PROMPT)


PRESETS = ("mlp", "unsloth", "all-linear", "attention", "mlp 3", "all-linear r/active")
"""Some with an expert_rank."""
EXPERTS = COMMON | {"num_local_experts": 4, "num_experts_per_tok": 2}
MIXED = {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "qwen3_moe": SHAPES["qwen3_moe"],
    "mixtral": EXPERTS | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]},
    "gpt_oss": EXPERTS | {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]} | MIXED,
    "phi3": SHAPES["phi3"],
}

PROGRAM = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from rankviz.worker.device import set_environment
set_environment()
os.environ["HF_HUB_OFFLINE"] = "1"
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from rankviz.worker.finetune.session import load_base
from rankviz.worker.finetune.session import attach, detach
from rankviz.core.lora.config import LoraConfig
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import Device
from rankviz.errors import InvalidSettingError
from rankviz.core.probe import PROBE_TRAINING
from rankviz.core.runs.request import RunRequest
from rankviz.worker.base import Base
from rankviz.worker.introspect.layers import layers_of
from rankviz.worker.probe import write_random_base
from rankviz.worker.device import settle

folder, configs, presets = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
training = replace(PROBE_TRAINING, framework="unsloth", max_length=32)
settings, counts = settle(training, cuda=False), {}
for name, config in configs.items():
    base = folder / name
    write_random_base(config, config["num_hidden_layers"], base)
    model, *_ = load_base(Base(name=str(base), is_local=True), settings)
    for preset in presets:
        targets, _, expert_rank = preset.partition(" ")
        lora = LoraConfig(r=4, lora_alpha=4, target_modules=targets, expert_rank=expert_rank or "r")
        try:
            plan = plan_on(layers_of(config), lora, training, Device())
        except InvalidSettingError:
            counts[f"{name} {preset}"] = None
            continue
        run = RunRequest(run_id="r", sweep_id="s", created_at=0, base=str(base), data="", lora=lora, training=training)
        adapter = attach(model, run, plan, settings)
        trained = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
        counts[f"{name} {preset}"] = [plan.parameters(4), trained]
        model = detach(adapter)
json.dump(counts, answers)
"""


@pytest.mark.timeout(1200)
def test_experts_are_trained_as_counted(tmp_path):
    counts = json.loads(said_by("-c", PROGRAM, str(tmp_path), json.dumps(CONFIGS), *PRESETS, cwd=tmp_path))

    assert len(CONFIGS) * len(PRESETS) == len(counts)
    # Plain PEFT reaches no expert of gpt-oss by name.
    assert ["gpt_oss mlp", "gpt_oss mlp 3"] == [name for name, pair in counts.items() if pair is None]
    assert {} == {name: pair for name, pair in counts.items() if pair and pair[0] != pair[1]}
    # Mixtral's experts, r = 4: 2 blocks of 4, gate_up 64 to 2 x 96 at twice the rank, and down 96 to 64.
    assert 4 * 2 * 4 * (2 * (64 + 192) + (96 + 64)) == counts["mixtral mlp"][1]
    assert 3 * 2 * 4 * (2 * (64 + 192) + (96 + 64)) == counts["mixtral mlp 3"][1]
    # Phi-3, r = 4, 2 blocks: qkv 64 to 4 x 16 + 2 x 2 x 16, o 64 to 64, gate_up 64 to 2 x 96, down 96 to 64.
    assert 4 * 2 * ((64 + 128) + (64 + 64) + (64 + 192) + (96 + 64)) == counts["phi3 unsloth"][1]
