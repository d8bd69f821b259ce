"""Catalogue models through the real FastLanguageModel, FastModel and FastVisionModel: the same counts, the same
size of the file, and a refusal where Unsloth or PEFT stops.

tests/support/models/unsloth_counts.py runs Unsloth's own get_peft_model in a process of its own: in `make test` on the
first blocks of one model a family and of every mixture of experts, in `make test-counts` on each model whole.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rankviz.catalog.models import load_index
from rankviz.core.lora.config import FLAGS, PRESETS, UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.experts import expert_names
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.lora.targets import LINEAR_KINDS, OWN_FAMILIES, SPLIT_FAMILIES, chosen_names, expand
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError
from rankviz.worker.finetune.training import unsloth_arguments
from tests.support.models.shallow import FEW, as_built, config_of, shallow
from tests.support.processes.answers import UNSLOTH, said_by
from tests.support.runs.toy import ASSETS

pytestmark = pytest.mark.torch
R = 4
QKVO = UNSLOTH_SEVEN[:4]
EXPERT_LISTS = (
    UNSLOTH_SEVEN[4:],
    ("down_proj",),
    ("gate_up_proj",),
    ("gate_proj", "up_proj"),
    ("down_proj", "o_proj"),
    ("q_proj", "gate_proj"),
    ("gate", "o_proj"),
    ("o_proj", "w1", "w2", "w3"),
)
COMBINATIONS = tuple(itertools.product((True, False), repeat=len(FLAGS)))


class Case(NamedTuple):
    """One configuration on one model."""

    lora: LoraConfig
    precision: str = "bf16"

    def plan(self, model: ModelSpec) -> AdapterPlan | None:
        """None where RankViz refuses."""
        try:
            return resolve(model, self.lora, "unsloth", precision=self.precision)
        except InvalidSettingError:
            return None


def cases(model: ModelSpec, *, smallest: bool = True, quick: bool = False) -> Iterator[Case]:
    """Presets, the model's own names, names with dots, names of experts, and flags.

    smallest: of its family; the larger ones have the flags with one list of names instead of three. quick: fewer cases
    of a kind.
    """
    own = tuple(dict.fromkeys(layer.name for layer in model.layers if layer.kind in LINEAR_KINDS))
    first = next(layer for layer in model.layers if layer.part == "attention" and layer.kind in LINEAR_KINDS)
    dotted = ".".join(first.path.split(".")[-2:])
    presets = ("unsloth", "all-linear", "mlp") if quick else (*PRESETS, QKVO)
    for targets in (*presets, own, (dotted,), (first.path.replace("{}", "0"), own[0])):
        yield Case(LoraConfig(target_modules=targets))
    for targets in ("all-linear", "mlp", (dotted, own[-1])) if quick else (*presets, (dotted, own[-1])):
        yield Case(LoraConfig(target_modules=targets, unsloth_class="FastModel"))
    yield Case(LoraConfig(target_modules=(*QKVO, "lm_head", "embed_tokens"), use_dora=True))
    if smallest:
        yield from saving_cases(model, own)
    if model.has_experts:
        for targets in EXPERT_LISTS if smallest or not quick else EXPERT_LISTS[:3]:
            yield Case(LoraConfig(target_modules=targets))
            if smallest and not quick:
                yield Case(LoraConfig(target_modules=targets, unsloth_class="FastModel"))
        for rank in (3, "r/active", "r/all") if smallest and not quick else (3,):
            yield Case(LoraConfig(r=R, target_modules="unsloth", expert_rank=rank))
        for targets, scheme in itertools.product(("unsloth", "all-linear"), ("linear-only", "target-parameters")):
            yield Case(LoraConfig(target_modules=targets, moe_scheme=scheme))
            yield Case(LoraConfig(target_modules=targets, moe_scheme=scheme, unsloth_class="FastModel"))
    if model.model_type in OWN_FAMILIES:
        yield Case(LoraConfig(target_modules=("self_attn.q_proj", *UNSLOTH_SEVEN)), "int8")
        yield Case(LoraConfig(target_modules="all-linear"), "int8")
        for saves in (("lm_head", "score"), ("norm",), ("input_layernorm", "embed_tokens"), ("mlp",)):
            yield Case(LoraConfig(target_modules="unsloth", modules_to_save=saves))
    if model.model_type in SPLIT_FAMILIES:
        # Thousands of modules for PEFT to wrap: the larger one only once.
        for targets in (*presets, *EXPERT_LISTS[: 3 if quick else None]) if smallest else ("unsloth",):
            yield Case(LoraConfig(target_modules=targets), "nf4-dq")
        if smallest:
            yield Case(LoraConfig(target_modules="unsloth", use_dora=True), "nf4-dq")
            yield Case(LoraConfig(target_modules=("q_proj", "down_projs")), "nf4-dq")
            yield Case(LoraConfig(r=R, target_modules="unsloth", expert_rank=3), "nf4-dq")
            for targets in ("unsloth", "all-linear"):
                yield Case(LoraConfig(target_modules=targets, moe_scheme="linear-only"), "nf4-dq")
    if model.tower == "whole model":
        lists = ("unsloth", own, "all-linear") if smallest and not quick else (own,)
        # every third of them has each flag on and off, alone and beside each other
        for flags, targets in itertools.product(COMBINATIONS[:: 3 if quick else 1], lists):
            yield Case(LoraConfig(target_modules=targets, **dict(zip(FLAGS, flags, strict=True))))


def saving_cases(model: ModelSpec, own: tuple[str, ...]) -> Iterator[Case]:
    """modules_to_save beyond embedding and head: one of each kind of module that is there.

    Not names that end another layer's name ("attn", and "c_attn" inside it), nor modules whose experts carry LoRA
    (Nemotron's "mixer"): RankViz refuses these where Unsloth counts.
    """
    attention = next(layer for layer in model.layers if layer.part == "attention" and layer.kind in LINEAR_KINDS)
    holder = attention.path.split(".")[-2]
    kinds = {module.tensors[0].name: module.path.rsplit(".", 1)[-1] for module in model.plain_modules}
    ends = {layer.name for layer in model.layers}
    around_experts = {part for layer in model.layers if layer.kind == "experts" for part in layer.path.split(".")[:-1]}
    for name in dict.fromkeys((attention.name, holder, "layers", "dropout", *kinds.values())):
        if name == "{}" or name in around_experts - {"layers"} or any(end.endswith(name) for end in ends - {name}):
            continue
        yield Case(LoraConfig(target_modules=own, modules_to_save=(name,), unsloth_class="FastModel"))


def call(model: ModelSpec, case: Case, plan: AdapterPlan | None) -> dict[str, Any]:
    """What the worker passes to Unsloth. Where RankViz refuses, what the targets stand for."""
    lora = case.lora
    flags = {flag: value for flag, value in zip(FLAGS, lora.flags, strict=True) if value is not None}
    arguments: dict[str, Any] = {"target_modules": asked(model, lora), **flags}
    if lora.modules_to_save:
        arguments["modules_to_save"] = lora.modules_to_save
    if plan is not None:
        arguments |= unsloth_arguments(lora, plan)
    whole = model.tower == "whole model" and "finetune_vision_layers" in arguments
    return {
        "unsloth_class": "FastVisionModel" if whole else lora.unsloth_class,
        "new_model": lora.unsloth_class == "FastModel"
        or case.precision == "int8"
        or model.model_type not in OWN_FAMILIES,
        "arguments": {"r": R, "use_dora": lora.use_dora, **arguments},
    }


def asked(model: ModelSpec, lora: LoraConfig) -> tuple[str, ...] | str:
    """What the targets stand for, whether RankViz refuses them or not."""
    experts = expert_names(model, "unsloth" if model.has_experts else "dense")
    if lora.target_modules == "all-linear" and False in lora.flags:
        # Unsloth ignores its flags beside the word, so RankViz passes names.
        return (*chosen_names(model), *experts)
    try:
        return expand(model, lora.target_modules, expert_names=experts, bare=model.model_type not in OWN_FAMILIES)
    except InvalidSettingError:
        return ("q_proj", "v_proj")


def groups() -> list[list[ModelSpec]]:
    """Catalogue models, those together that are the same to LoRA."""
    together = defaultdict(list)
    for row in load_index(ASSETS):
        model = as_built(row.id)
        together[model.model_type, model.tower, model.tie_word_embeddings, model.layers].append(model)
    return list(together.values())


Question = tuple[ModelSpec, Path, bool, list[Case]]
"""A model with its config.json, whether its experts are linear layers, and its cases."""


def questions(quick: bool, folder: Path) -> Iterator[Question]:
    """Each model with its cases; a checkpoint with split experts is a model of its own.

    quick: the first blocks of one model a family and of every mixture of experts; else every model whole.
    """
    models = sorted((model for model, *_ in groups()), key=lambda model: model.total_parameters)
    families = set()
    for model in models:
        family = (model.model_type, model.tower)
        smallest = family not in families
        families.add(family)
        if quick and not (smallest or model.has_experts):
            continue
        built, path = shallow(model.id, folder, least=FEW) if quick else (model, config_of(model.id))
        every = list(cases(built, smallest=smallest, quick=quick))
        for split in (False, True):
            if asking := [case for case in every if split == (case.precision == "nf4-dq")]:
                yield built, path, split, asking


def ask_unsloth(asking: Iterable[Question]) -> Iterator[tuple[ModelSpec, Case, dict[str, Any]]]:
    """Unsloth's answer to each case."""
    asking = list(asking)
    models = [
        {"config": str(path), "split": split, "calls": [call(model, case, case.plan(model)) for case in cases]}
        for model, path, split, cases in asking
    ]
    said = said_by("-m", "tests.support.models.unsloth_counts", asked=models, **UNSLOTH)
    answers = map(json.loads, said.splitlines())
    asked_in_order = [(model, case) for model, *_, cases in asking for case in cases]
    return ((*question, answer) for question, answer in zip(asked_in_order, answers, strict=True))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_unsloth_trains_what_rankviz_counts_and_refuses_what_it_refuses(quick, tmp_path):
    """Two processes: counts and the bytes of files, and None where Unsloth or PEFT refuses."""
    every = list(questions(quick, tmp_path))
    theirs, ours = {}, {}
    with ThreadPoolExecutor(2) as pool:
        for model, case, answer in itertools.chain(*pool.map(ask_unsloth, (every[::2], every[1::2]))):
            plan = case.plan(model)
            ours[model.id, case] = plan and (plan.parameters(R), plan.adapter_bytes(R, saved_dtype="fp32"))
            theirs[model.id, case] = (answer["count"], answer["bytes"]) if "count" in answer else None

    assert {} == {key: (ours[key], counted) for key, counted in theirs.items() if ours[key] != counted}
    refused = sum(counted is None for counted in theirs.values())
    assert 50 < refused < len(theirs) / 2


def test_counts_that_were_published_or_wrong_once():
    def count(model_id: str, targets, precision: str = "bf16", **settings) -> int | None:
        plan = Case(LoraConfig(target_modules=targets, **settings), precision).plan(as_built(model_id))
        return plan and plan.parameters(R)

    assert 642_514_944 // 4 == count("Qwen/Qwen3-30B-A3B", "unsloth")
    assert 92_454_912 // 2 == count("openai/gpt-oss-20b", "unsloth") == count("openai/gpt-oss-20b", "unsloth", "nf4-dq")
    assert 7_450_624 == count("google/gemma-3-4b-it:whole", "unsloth")
    assert 8_197_120 == count("google/gemma-3-4b-it:whole", "unsloth", unsloth_class="FastModel")
    assert 120_913_920 == count("meta-llama/Llama-4-Scout-17B-16E-Instruct:whole", "unsloth")
    assert count("openai-community/gpt2", "all-linear") is None
    assert count("Qwen/Qwen3-30B-A3B", "mlp") is None
