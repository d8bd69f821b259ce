"""Adapter numbers on toy models, worked out by hand, the laws they obey, and what Unsloth, PEFT and MoE schemes make of
targets.

The toy (toy.py): two blocks, 16 wide. in + out is 32 for q and o, 24 for k and v, 48 for gate, up and down: 112 for
attention, 144 for the MLP, 256 a block, 512 for both.
"""

from dataclasses import replace

import pytest

from rankviz.catalog.models import load_model
from rankviz.core.cost.question import Question
from rankviz.core.lora.config import FLAGS, LoraConfig, lora_alpha
from rankviz.core.lora.experts import shared_outer_per_rank
from rankviz.core.lora.notes import experts_at
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.lora.targets import ALL_ON, EXPERT_NAMES, Flags, names_experts
from rankviz.core.model.spec import LinearLayer, ModelSpec, OwnTensor, PlainModule, UnslothCheckpoint
from rankviz.core.runs.request import SweepRequest
from rankviz.errors import InvalidSettingError
from tests.support.runs.toy import ASSETS, ATTENTION, EXPERTS, MLP, TOY, TOY_MOE, layer, model

HEAD = LinearLayer(path="lm_head", in_features=16, out_features=100, kind="lm_head", part="head")
WITH_HEAD = model((*ATTENTION, *MLP, HEAD), output_embedding="lm_head", total_parameters=10_000)
UNTIED = replace(WITH_HEAD, tie_word_embeddings=False, config_ties=False, id="toy/untied")
ROUTER = layer("mlp.gate.weight", 16, 4, part="other", kind="router")
SHARED = tuple(replace(each, path=each.path.replace("mlp.", "mlp.shared_expert.")) for each in MLP)
REMAPPED = model(
    (*ATTENTION, ROUTER, *EXPERTS, *SHARED),
    id="toy/remapped",
    num_experts=4,
    num_experts_per_tok=2,
    peft_remap="qwen2_moe",
)


def plan_of(spec: ModelSpec, targets="unsloth", framework="peft", **settings) -> AdapterPlan:
    return resolve(spec, LoraConfig(target_modules=targets, **settings), framework)


def test_names_match_whole_components_from_the_end():
    assert 64 == plan_of(TOY, ("self_attn.q_proj",)).parameters(1)
    assert 32 == plan_of(TOY, ("layers.1.self_attn.q_proj",)).parameters(1)
    assert 32 + 48 == plan_of(TOY, ("model.layers.0.self_attn.q_proj", "1.mlp.up_proj")).parameters(1)
    for nothing in (
        ("proj",),
        ("layers.2.self_attn.q_proj",),
        ("attn.q_proj",),
        ("a.model.layers.0.self_attn.q_proj",),
    ):
        with pytest.raises(InvalidSettingError, match="matches nothing"):
            plan_of(TOY, nothing)
    for spec, names, sentence in (
        (NORMED, ("q_proj", "mlp"), "mlp is not a linear layer"),
        (TOY, ("x", "y"), "^x, y match nothing in this model. Linear layers here: q_proj, k_proj, "),
        (TOY, (), "^No target modules are given. Name some, or use one of all-linear, attention, mlp, qv, unsloth"),
        (TOY, "all", "^Target modules must be one of all-linear, .* names .got 'all'."),
        (model(MLP), "qv", "neither q_proj and v_proj nor a fused one; it has down_proj, gate_proj, up"),
        (TOY_MOE, ("experts",), "^experts matches nothing in this model. Experts are fused parameters, which other"),
    ):
        with pytest.raises(InvalidSettingError, match=sentence):
            plan_of(spec, names)


@pytest.mark.parametrize(("rule", "e"), [("r/active", 4), ("r / all", 2), ("3", 3), ("r", 8)])
def test_experts_have_the_rank_of_a_rule_or_a_number(rule, e):
    # As above, by rank: attention 224, experts 256 + 192; PEFT's rewrite has gate_up_proj at twice their rank.
    fused, remap = plan_of(TOY_MOE, framework="unsloth", expert_rank=rule), plan_of(REMAPPED, expert_rank=rule)

    assert 224 * 8 + (256 + 192) * e == fused.parameters(8)
    assert 224 * 8 + (2 * 256 + 192) * e == remap.parameters(8)
    for plan in (fused, remap):
        assert plan.parameters(8) == sum(sum(cells.values()) for cells in plan.by_block(8).values())
    assert f"LoRA per expert at rank {e}, gate and up fused" == experts_at(fused, 8)
    assert f"LoRA per expert at rank {e}, gate_up_proj at {2 * e} (PEFT's remap)" == experts_at(remap, 8)


@pytest.mark.parametrize(("use_rslora", "alphas"), [(False, (16, 8)), (True, (32, 16))])
def test_the_experts_of_another_rank_keep_alpha_over_r(use_rslora, alphas):
    lora = LoraConfig(r=8, lora_alpha=32, use_rslora=use_rslora, expert_rank=2)

    # PEFT's own pattern, .*[.]gate_up_proj, comes after a bracket when the saved configuration is sorted.
    names = ("(mlp.experts.gate_up_proj)", "mlp.experts.down_proj")
    assert {
        "rank_pattern": dict(zip(names, (4, 2), strict=True)),
        "alpha_pattern": dict(zip(names, alphas, strict=True)),
    } == plan_of(REMAPPED, expert_rank=2).patterns(lora)
    assert {} == plan_of(REMAPPED).patterns(LoraConfig(r=8))
    assert (32 / (8**0.5 if use_rslora else 8), "expert_rank 2") == (lora.scale, lora.variants[-1])
    assert lora.variants[:-1] == ("rsLoRA",) * use_rslora and LoraConfig(use_dora=True).variants == ("DoRA",)


OF_EXPERTS = "expert_rank, unless it is one of r, r/active, r/all, must be a whole number from 1 to 1,024"


@pytest.mark.parametrize(
    ("name", "taken", "wrong", "sentence"),
    [
        ("r", (1, 1024), (0, 1025, True), "Rank must be a whole number from 1 to 1,024"),
        ("lora_alpha", (1e-9, 10**6), (0, 10**6 + 1), "Alpha must be a number above 0 and at most 1,000,000"),
        ("expert_rank", (1, "r / all", " 10 24"), ("r/2", 0, True, 1025, "9" * 5000), OF_EXPERTS),
        ("target_modules", ("qv", ["q_proj"]), ("", (), ("q_proj", "")), "No target modules are given. Name some"),
        ("modules_to_save", ((), ["norm"]), ("norm",), "A module to save must be a list"),
        (FLAGS[3], (None, True, False), (0, "on"), f"{FLAGS[3]} must be true or false"),
        ("text_only", (True, False), (None, 1), "text_only must be true or false"),
    ],
)
def test_a_setting_at_its_bound_is_taken_and_one_beyond_is_refused(name, taken, wrong, sentence):
    for value in taken:
        LoraConfig(**{name: value}).validate()
    for value in wrong:
        with pytest.raises(InvalidSettingError, match=f"^{sentence}"):
            LoraConfig(**{name: value}).validate()


def test_alpha_is_r_twice_r_or_a_number_up_to_a_million():
    assert [8.0, 16.0, 0.5, 1e6] == [lora_alpha(rule, 8) for rule in (" R", "2r", "0.5", "1e6")]
    for wrong in ("3r", "0", "-1", "nan", "1000001"):
        with pytest.raises(InvalidSettingError, match=f"a number above 0 and at most 1,000,000 .got '{wrong}'"):
            lora_alpha(wrong, 8)


CHECKPOINT = UnslothCheckpoint(repository="unsloth/gpt-oss-unsloth-bnb-4bit")
SPLIT = replace(TOY_MOE, model_type="gpt_oss", unsloth_checkpoint=CHECKPOINT)
"""In 4 bit each expert's gate_up_proj and down_proj are linear layers."""


def test_split_experts_are_refused_where_unsloth_stops_or_trains_one_of_them():
    def refusal(targets, **settings):
        with pytest.raises(InvalidSettingError) as refused:
            resolve(SPLIT, LoraConfig(target_modules=targets, **settings), "unsloth", precision="nf4")
        return str(refused.value)

    # Each expert's two layers add their outputs, 16 and 16, to attention's 48.
    dora = resolve(SPLIT, LoraConfig(use_dora=True), "unsloth", precision="nf4")
    assert 224 + 256 + 192 + 2 * (48 + 4 * 32) == dora.parameters(1)
    assert "target-parameters names nothing" in refusal("attention", moe_scheme="target-parameters")
    assert "experts.down_projs, a list of experts, or one of it" in refusal(("q_proj", "down_projs"))


def test_peft_rewrites_targets_of_a_moe_family_without_experts_too():
    dense = model((*ATTENTION, *MLP), id="toy/dense-moe", model_type="toy", peft_remap="qwen2_moe")

    # The MLP's names leave target_modules; Unsloth puts them back.
    assert 224 == plan_of(dense).parameters(1)
    assert 512 == plan_of(dense, framework="unsloth", unsloth_class="FastModel").parameters(1)
    with pytest.raises(InvalidSettingError, match="cannot adapt gate_proj without up_proj"):
        plan_of(dense, ("q_proj", "gate_proj"), "unsloth", unsloth_class="FastModel")


def test_a_tied_pair_of_which_the_config_says_nothing_is_two_for_unsloth_too():
    for spec, ties, ends, saved in ((WITH_HEAD, True, 1600, 2), (WITH_HEAD, False, 3200, 2), (UNTIED, True, 1600, 1)):
        plan = plan_of(replace(spec, config_ties=ties), ("q_proj", "embed_tokens", "lm_head"), "unsloth")
        assert (64 + ends, saved) == (plan.parameters(1), len(plan.saved))


def tensors(**shapes: tuple[int, ...]) -> tuple[OwnTensor, ...]:
    return tuple(OwnTensor(name=name, shape=shape) for name, shape in shapes.items())


NORM = PlainModule(path="model.layers.{}.input_layernorm", tensors=tensors(weight=(16,)), blocks=(0, 1), is_norm=True)
LAST_NORM = PlainModule(path="model.norm", tensors=tensors(weight=(16,)), is_norm=True)
GATE = PlainModule(path="model.layers.{}.mlp.gate", tensors=tensors(weight=(4, 16), bias=(4,)), blocks=(0, 1))
FUSED = PlainModule(
    path="model.layers.{}.mlp.experts",
    tensors=tensors(gate_up_proj=(4, 16, 16), down_proj=(4, 16, 8)),
    part="mlp",
    blocks=(0, 1),
)
NORMED = replace(
    UNTIED,
    id="toy/normed",
    plain_modules=(NORM, LAST_NORM),
    other_modules=("model", "model.layers", "model.layers.{}", "model.layers.{}.mlp", NORM.path, LAST_NORM.path),
)
ROUTED = replace(TOY_MOE, id="toy/routed-moe", model_type="qwen3_moe", plain_modules=(GATE, FUSED))


def test_a_name_of_modules_to_save_hits_every_path_that_ends_with_it():
    # 512 a rank for all seven; q_proj, saved in full, leaves 32 a block and takes 16 · 16.
    for names, parameters in (
        (("norm",), 512 + 3 * 16),
        (("model.norm",), 512 + 16),
        (("layers.1.input_layernorm",), 512 + 16),
        (("q_proj",), 512 - 64 + 2 * 256),
        (("mlp",), 512 - 2 * 144 + 2 * 3 * 512),
    ):
        plan = plan_of(NORMED, modules_to_save=names)
        assert parameters == plan.parameters(1), names
        assert parameters == sum(sum(cells.values()) for cells in plan.by_block(1).values()), names


def test_what_cannot_be_saved_in_full_is_refused():
    def refusal(
        spec: ModelSpec, names: tuple[str, ...], framework="peft", precision="bf16", targets=("q_proj",)
    ) -> str:
        with pytest.raises(InvalidSettingError) as refused:
            resolve(spec, LoraConfig(target_modules=targets, modules_to_save=names), framework, precision=precision)
        return str(refused.value)

    assert "model.layers, a list of blocks" in refusal(NORMED, ("layers",))
    assert "both model.layers.N.mlp and model.layers.N.mlp.up_proj inside it" in refusal(NORMED, ("mlp", "up_proj"))
    assert "dropout, which also hits modules that PEFT adds" in refusal(NORMED, ("dropout",))
    lfm2 = load_model(ASSETS, "LiquidAI/LFM2-1.2B")  # one name, two modules
    assert "which RankViz does not count. Give a longer name" in refusal(lfm2, ("conv",))
    assert "where q_proj carries LoRA" in refusal(NORMED, ("_proj",))
    assert "takes only embed_tokens, lm_head and normalization" in refusal(NORMED, ("o_proj",), "unsloth")
    assert "packed in a 4-bit or 8-bit base" in refusal(NORMED, ("o_proj",), precision="nf4")
    assert "packed in a 4-bit or 8-bit base" in refusal(ROUTED, ("experts",), "unsloth", "nf4-dq")
    for spec, names, framework in ((NORMED, ("norm", "lm_head"), "peft"), (ROUTED, ("experts",), "trl")):
        lora = LoraConfig(target_modules=("q_proj",), modules_to_save=names)
        assert resolve(spec, lora, framework, precision="nf4").saved


OTHER = model(
    (
        *ATTENTION,
        *MLP,
        layer("conv.in_proj", 16, 48, part="other"),
        layer("per_layer_gate", 16, 4, part="other"),
        LinearLayer(
            path="model.visual.blocks.{}.attn.q_proj", in_features=8, out_features=8, blocks=(0, 1, 2), part="vision"
        ),
        LinearLayer(path="model.visual.merger.down_proj", in_features=8, out_features=16, part="vision"),
    ),
    id="toy/other",
    model_type="toy",
)
"""A family that Unsloth has no kernels for, with a vision tower. Attention 224, MLP 288, the tower's attention 48."""


@pytest.mark.parametrize(
    ("spec", "targets", "settings", "sentence"),
    (
        (TOY, "unsloth", {"finetune_mlp_modules": True}, "FastLanguageModel takes no finetune_mlp_modules for llama"),
        (OTHER, "unsloth", dict.fromkeys(FLAGS[2:], False), "finetune_mlp_modules are both off"),
        (OTHER, ("self_attn.q_proj",), {}, "^self_attn.q_proj: Unsloth .* It takes names without dots"),
        (OTHER, "mlp", {FLAGS[3]: False}, "^Preset mlp: Unsloth"),
    ),
)
def test_what_unsloth_refuses_is_refused_with_what_to_do(spec, targets, settings, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        plan_of(spec, targets, "unsloth", **settings)


def test_parameters_by_place_and_modules_of_one_name_told_apart_by_what_holds_them():
    vision = LinearLayer(path="visual.{}.attn.q_proj", in_features=8, out_features=8, blocks=(0, 1, 2), part="vision")
    few = model(
        (
            *(ATTENTION[0], layer("conv.in_proj", 16, 4), layer("in_proj", 16, 4, blocks=(1,)), vision),
            *(layer("mlp.0", 16, 4), replace(HEAD, kind="linear"), layer("attn.v_proj", 16, 4, kind="conv1d")),
        ),
        id="toy/few",
    )
    plan = plan_of(few, "all-linear", use_dora=True, modules_to_save=("embed_tokens",))

    # 3 · (in + out), and a magnitude for each output
    text = {(0, 0): 64, (0, 1): 64}
    assert {
        "self_attn.q_proj": {(0, 0): 3 * 32 + 16, (0, 1): 3 * 32 + 16},
        "conv.in_proj": text,
        "in_proj": {(0, 1): 64},
        "attn.q_proj": {(1, block): 3 * 16 + 8 for block in range(3)},
        "mlp.0": text,
        "lm_head": {(2, 0): 3 * 116 + 100},
        "v_proj": text,
        "embed_tokens (in full)": {(2, 0): 1600},
    } == plan.by_block(3)
    experts = plan_of(REMAPPED, ("q_proj", "gate", "down_proj"))
    assert {"q_proj": 32, "gate.weight": 20, "experts.down_proj": 96} == {
        name: cells[0, 1] for name, cells in experts.by_block(1).items()
    }


KINDS = [lambda **given: Question(model_id="toy", **given), SweepRequest]


@pytest.mark.parametrize("asking", KINDS)
@pytest.mark.parametrize(("given", "rank", "alpha"), [({"r": 8, "lora_alpha": 32}, 8, 32), ({"r": 8}, 8, 16)])
def test_a_lora_config_with_a_rank_asks_for_that_rank_and_its_alpha(asking, given, rank, alpha):
    asked = asking(lora=LoraConfig(**given, use_dora=True))

    assert (rank,) == asked.ranks
    assert LoraConfig(r=rank, lora_alpha=alpha, use_dora=True) == asked.lora_at(rank)


@pytest.mark.parametrize("asking", KINDS)
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ranks": (4, 16)}, "The rank is given twice, in LoraConfig and beside it: 8 and 4, 16."),
        ({"lora_alpha": "2r"}, "Alpha is given twice, in LoraConfig and beside it: 32 and 2r."),
    ],
)
def test_what_is_given_twice_and_differs_is_refused(asking, given, sentence):
    with pytest.raises(InvalidSettingError, match=f"^{sentence}$"):
        asking(lora=LoraConfig(r=8, lora_alpha=32), **given)


TINKER = {
    "Qwen/Qwen3-30B-A3B": 14_450_688 + 835_584 + 153_984,
    "openai/gpt-oss-20b": 6_842_880 + 497_664 + 203_968,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 11_346_176 + 584_832 + 133_760,
}
"""MLP, attention and unembedding per unit of rank, as get_lora_param_count of the tinker-cookbook stores them."""


@pytest.mark.parametrize("model_id", TINKER)
def test_tinkers_parameters_follow_from_the_shapes(model_id):
    assert TINKER[model_id] == shared_outer_per_rank(load_model(ASSETS, model_id))
    assert shared_outer_per_rank(FUSED_QKV) is None


FUSED_QKV = model((layer("self_attn.qkv_proj", 16, 32), layer("self_attn.o_proj", 16, 16), *MLP), id="toy/fused")
PLAIN_MOE = replace(TOY_MOE, model_type="toy")
WHOLE = replace(OTHER, tower="whole for text", model_type="gemma4")
BOTH = {"modules_to_save": ("lm_head", "embed_tokens")}
OF_NONE, IN_FULL = "are fused, and these targets name none of them.", "Unsloth trains lm_head in full"
TIED = "Embedding and head are tied in the base: a copy is trained in full, and the tie is lost."


@pytest.mark.parametrize(
    ("spec", "targets", "framework", "settings", "notes"),
    [
        (TOY, ("q_proj", "x"), "peft", {}, ["x matches nothing in this model, which has q_proj, k_proj, v_proj, o_"]),
        (TOY, ("q_proj", "x", "a.y"), "peft", {}, ["x and a.y match nothing in this model"]),
        (TOY, ("self_attn.q_proj", "mlp.down_proj"), "peft", {}, []),
        (TOY, "qv", "peft", {"modules_to_save": ("z",)}, ["names z, which has no parameters here. Embedding and head"]),
        (TOY, "qv", "trl", {FLAGS[2]: False}, [f"{FLAGS[2]}: these settings are Unsloth's on a GPU; TRL ignores them"]),
        (OTHER, "all-linear", "unsloth", dict.fromkeys(FLAGS[::3], False), ["so layers are named: q_", "leaves"]),
        (TOY, "qv", "trl", {"expert_rank": 2}, ["expert_rank has no effect here: this model has no experts."]),
        (FUSED_QKV, "qv", "peft", {}, ["qv is qkv_proj here: this model has no q_proj and v_proj of its own."]),
        (FUSED_QKV, ("o_proj", "q_proj"), "peft", {}, ["Name qkv_proj instead, which holds them fused."]),
        (TOY_MOE, "attention", "peft", {"expert_rank": 2}, ["these experts carry no LoRA.", "only through target_"]),
        (TOY_MOE, ("q_proj",), "unsloth", {}, [OF_NONE]),
        (TOY_MOE, "unsloth", "unsloth", {"expert_rank": "r/active"}, ["at rank r / 2 an expert, as parameters."]),
        (
            PLAIN_MOE,
            "all-linear",
            "trl",
            {"moe_scheme": "target-parameters", "expert_rank": 3},
            ["3 an expert, as par"],
        ),
        (REMAPPED, "unsloth", "peft", {}, ["s gate_up_proj and down_proj carry LoRA, gate_up_proj at rank 2r; shared"]),
        (REMAPPED, "unsloth", "peft", {"expert_rank": 2}, ["gate_up_proj at rank 2 · 2; shared experts"]),
        (REMAPPED, "unsloth", "peft", {"expert_rank": "r/all"}, ["gate_up_proj at rank 2 · r / 4; shared experts"]),
        (WITH_HEAD, ("q_proj", "lm_head"), "unsloth", {}, [IN_FULL, TIED]),
        (WITH_HEAD, ("q_proj",), "unsloth", BOTH, ["tied: Unsloth trains one set of weights and saves it twice."]),
        (WITH_HEAD, ("q_proj",), "peft", BOTH, [TIED]),
        (UNTIED, ("q_proj",), "unsloth", {"modules_to_save": ("model.embed_tokens",)}, []),
        (UNTIED, ("q_proj", "embed_tokens"), "trl", {}, ["PEFT saves the frozen weight of embed_tokens with"]),
        (ROUTED, ("q_proj",), "unsloth", {"modules_to_save": ("experts", "mlp.gate")}, [OF_NONE, "saves experts in"]),
        (replace(NORMED, tower="text tower"), "qv", "peft", {}, ["other towers included, is toy/normed:whole."]),
        (WHOLE, ("q_proj",), "unsloth", {FLAGS[0]: True}, ["loaded: 3 of 5 targeted modules are", "With text_only it"]),
        (replace(WHOLE, tower="whole model"), ("q_proj",), "peft", {}, ["loaded: 3 of 5 targeted modules are outside"]),
        (OTHER, ("q_proj", "per_layer_gate"), "unsloth", {}, ["leaves out per_layer_gate: its FastLanguageModel trai"]),
    ],
)
def test_the_notes_on_an_adapter_say_all_that_holds_and_nothing_else(spec, targets, framework, settings, notes):
    said = plan_of(spec, targets, framework, **settings).notes

    assert [True] * len(notes) == [part in note for part, note in zip(notes, said, strict=True)], said


def test_unsloth_reads_the_text_of_its_pattern_as_a_request_for_experts():
    no_mlp, neither = Flags(mlp=False), Flags(mlp=False, language=False)
    named = [names_experts(each, ALL_ON) for each in (("gate_proj", "q_proj"), ("q_proj", "o_proj"))]
    named += [names_experts(each, no_mlp) for each in (("q_proj", "in_proj"), ("q_proj", "x_proj"))]
    named += [names_experts(each, neither) for each in (("x_proj",), ("ffn.x_proj",))]

    assert [("gate_proj",), EXPERT_NAMES, (), EXPERT_NAMES, (), EXPERT_NAMES] == named
