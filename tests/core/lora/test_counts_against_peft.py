"""Catalogue models, wrapped by PEFT on the meta device: the same trainable parameters, the same refusals, and the size
that a file with PEFT's tensors would have. `make test` tries the first blocks of one a family and of every mixture of
experts with fewer configurations, `make test-counts` each model whole."""

from copy import deepcopy
from dataclasses import replace

import pytest

from rankviz.catalog.models import load_index
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, LoraConfig
from rankviz.core.lora.experts import expert_names, scheme_of
from rankviz.core.lora.resolve import resolve
from rankviz.core.lora.targets import Route, expand
from rankviz.errors import InvalidSettingError
from tests.support.models.families import one_a_family
from tests.support.models.shallow import as_built, config_of, shallow
from tests.support.processes.file_sizes import file_size
from tests.support.runs.toy import ASSETS

pytestmark = pytest.mark.torch
ROWS = load_index(ASSETS)
DENSE = (
    (16, LoraConfig(target_modules="all-linear")),
    (8, LoraConfig(target_modules="unsloth")),
    (2, LoraConfig(target_modules="attention", use_dora=True, modules_to_save=("lm_head", "embed_tokens"))),
    (6, LoraConfig(target_modules="attention", modules_to_save=("norm", "mlp"))),
    (12, LoraConfig(target_modules=("o_proj", "c_proj", "dense", "out_proj", "lm_head", "embed_tokens", "wte"))),
    (3, LoraConfig(target_modules=("proj", "patch_embedding", "patch_conv", "v_proj"), use_dora=True)),
)
MORE_DENSE = (
    (5, LoraConfig(target_modules="attention")),
    (7, LoraConfig(target_modules="mlp")),
    (64, LoraConfig(target_modules="qv")),
    (4, LoraConfig(target_modules=("proj", "patch_embedding", "patch_conv", "conv", "v_proj"))),
)
MOE = (
    (4, LoraConfig(target_modules="all-linear", moe_scheme="linear-only")),
    (4, LoraConfig(target_modules="all-linear", moe_scheme="unsloth")),
    (4, LoraConfig(target_modules=("gate", "o_proj"), moe_scheme="unsloth")),
    (6, LoraConfig(target_modules="attention", moe_scheme="target-parameters")),
    (4, LoraConfig(target_modules=("q_proj", "gate_proj"))),
    (4, LoraConfig(target_modules=("gate", "w1", "w2", "w3", "o_proj"))),
    (200, LoraConfig(target_modules="all-linear", expert_rank="r/all", use_rslora=True)),
    (16, LoraConfig(target_modules="unsloth", moe_scheme="unsloth", expert_rank="r/active")),
)
MORE_MOE = (
    (4, LoraConfig(target_modules="unsloth", moe_scheme="linear-only")),
    (4, LoraConfig(target_modules="unsloth", moe_scheme="target-parameters")),
    (4, LoraConfig(target_modules="mlp", moe_scheme="unsloth")),
    (4, LoraConfig(target_modules=("down_proj", "o_proj"), moe_scheme="unsloth")),
    (4, LoraConfig(target_modules="all-linear", use_dora=True)),
    (16, LoraConfig(target_modules="unsloth", expert_rank="r/active")),
    (4, LoraConfig(target_modules="unsloth", moe_scheme="target-parameters", expert_rank=11)),
)
"""The rest of the configurations, for `make test-counts`."""


@pytest.fixture(scope="module", autouse=True)
def many():
    from tests.support.models.meta_models import many_models

    with many_models():
        yield


@pytest.mark.parametrize(
    ("model_id", "whole"),
    [
        *((model_id, False) for model_id in sorted(one_a_family())),
        *(pytest.param(row.id, True, marks=pytest.mark.slow) for row in ROWS),
    ],
)
def test_peft_counts_as_rankviz_does(model_id, whole, tmp_path):
    from tests.support.models.meta_models import build

    model, path = (as_built(model_id), config_of(model_id)) if whole else shallow(model_id, tmp_path)
    dense, moe = (DENSE + MORE_DENSE, MOE + MORE_MOE) if whole else (DENSE, MOE)
    base, counted = build(path), 0
    for r, config in dense + (moe if model.has_experts else ()):
        lora = replace(config, r=r)
        case = f"{model_id}, {lora.target_modules}, {lora.moe_scheme}, dora {lora.use_dora}, r {r}, {lora.expert_rank}"
        try:
            plan = resolve(model, lora, "peft")
        except InvalidSettingError:
            plan = None

        count, file_bytes = peft_on_meta(deepcopy(base), model, lora, plan, r)

        assert (count is None) == (plan is None), f"{case}: PEFT counts {count}"
        if plan is not None:
            counted += 1
            assert count == plan.parameters(r), case
            assert file_bytes == plan.adapter_bytes(r, 4, saved_dtype="fp32"), case
            assert count == sum(sum(cells.values()) for cells in plan.by_block(r).values()), case
    assert counted  # a comparison of refusals with refusals would prove little


def test_the_rules_were_read_from_the_installed_versions():
    from importlib.metadata import version

    assert PEFT_VERSION == version("peft")
    assert UNSLOTH_VERSION == version("unsloth")


def peft_on_meta(base, model, lora, plan, r) -> tuple[int | None, int]:
    """Trainable parameters and file size by PEFT itself; None where it refuses."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model, get_peft_model_state_dict

    if lora.moe_scheme == "linear-only" and model.peft_remap:
        # PEFT looks its rewrite up by model_type: under a name it doesn't know there is none, as on transformers 4.
        base.config.model_type = "unknown"
    names = plan.target_modules if plan is not None else _names(model, lora)
    try:
        adapted = get_peft_model(
            base,
            PeftConfig(
                r=r,
                target_modules=names if isinstance(names, str) else list(names),
                target_parameters=list(plan.target_parameters) or None if plan is not None else None,
                modules_to_save=list(lora.modules_to_save) or None,
                use_dora=lora.use_dora,
                **(plan.patterns(lora) if plan is not None else {}),
                init_lora_weights=False,
                task_type="CAUSAL_LM",
            ),
            low_cpu_mem_usage=True,
        )
    except ValueError:
        return None, 0
    count = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return count, file_size({name: tuple(t.shape) for name, t in get_peft_model_state_dict(adapted).items()})


def _names(model, lora) -> tuple[str, ...] | str:
    """The names that PEFT gets where RankViz refuses: what the preset stands for."""
    scheme = scheme_of(model, lora.moe_scheme, Route(framework="peft", kind="peft"))
    try:
        return expand(model, lora.target_modules, expert_names=expert_names(model, scheme)) or ("nothing",)
    except InvalidSettingError:
        return ("q_proj", "v_proj")
