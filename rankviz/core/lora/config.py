"""Configuration of a LoRA adapter, with PEFT's names for its settings."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rankviz.core.bounds import flag, module_names, named, number, one_of, whole
from rankviz.errors import InvalidSettingError, quoted

Framework = Literal["unsloth", "trl", "peft", "mlx"]
"""Training program. On a Mac it is always "mlx", MLX LM, which wraps the modules that PEFT would."""
Dtype = Literal["fp32", "fp16", "bf16"]
MoeScheme = Literal["default", "linear-only", "peft-remap", "unsloth", "target-parameters"]
UnslothClass = Literal["FastLanguageModel", "FastModel"]
UNSLOTH_SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PRESETS = ("all-linear", "attention", "mlp", "qv", "unsloth")
MOE_SCHEMES: tuple[MoeScheme, ...] = get_args(MoeScheme)
UNSLOTH_CLASSES: tuple[UnslothClass, ...] = get_args(UnslothClass)
EXPERT_RANKS = ("r", "r/active", "r/all")
"""Rules for each expert's rank, at least 1: r; r over the experts active for a token; r over all experts."""
FLAGS = ("finetune_vision_layers", "finetune_language_layers", "finetune_attention_modules", "finetune_mlp_modules")
"""Unsloth's four flags for groups of layers: fields of LoraConfig, and arguments of Unsloth's get_peft_model."""
NO_TARGETS = f"No target modules are given. Name some, or use one of {', '.join(PRESETS)}."
MAX_RANK = 1024
MAX_ALPHA = 1_000_000
QUANTIZED = ("nf4", "nf4-dq", "int8")
PEFT_VERSION = "0.21.2"
UNSLOTH_VERSION = "2026.10.9"
"""Versions whose code targets.py and experts.py follow; tests compare them with the installed versions."""


class Usual(int):
    """A default number, told apart from an equal number that was given. dataclasses.replace keeps it a default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Settings of one LoRA adapter. Fields have PEFT's names; those for MoE and Unsloth are added."""

    r: int = Usual(16)
    lora_alpha: float = Usual(16)
    target_modules: str | tuple[str, ...] = "unsloth"
    """A preset of PRESETS, or module names, which PEFT compares with the ends of module paths."""
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    moe_scheme: MoeScheme = "default"
    """Treatment of fused experts by the adapter; "default" is the framework's own scheme."""
    expert_rank: int | str = "r"
    """Rank of each expert (PEFT's rank_pattern): a rule of EXPERT_RANKS or a number. PEFT's alpha_pattern is set with
    it, so that the experts have the same alpha / r as the other layers."""
    unsloth_class: UnslothClass = "FastLanguageModel"
    """Unsloth class whose get_peft_model attaches the adapter. FastVisionModel is another name of FastModel."""
    text_only: bool = False
    """True where Unsloth's from_pretrained loads only the text model of a multimodal checkpoint, no other towers."""
    finetune_vision_layers: bool | None = None
    """Unsloth's flags. None is the class's default: on, except for vision layers with FastLanguageModel."""
    finetune_language_layers: bool | None = None
    finetune_attention_modules: bool | None = None
    finetune_mlp_modules: bool | None = None

    def __post_init__(self):
        """Turn lists into tuples, and strip spaces around a preset's name and inside an expert rank."""
        targets, saved = self.target_modules, self.modules_to_save
        if isinstance(targets, str):
            object.__setattr__(self, "target_modules", targets.strip())
        elif isinstance(targets, Iterable):
            object.__setattr__(self, "target_modules", tuple(targets))
        if isinstance(saved, Iterable) and not isinstance(saved, str):
            object.__setattr__(self, "modules_to_save", tuple(saved))
        if isinstance(self.expert_rank, str):
            rule = self.expert_rank.replace(" ", "")
            object.__setattr__(self, "expert_rank", int(rule) if re.fullmatch(r"\d{1,8}", rule) else rule)

    @property
    def scale(self) -> float:
        """Factor by which B·A is multiplied: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        return scale_at(self.r, self.lora_alpha, use_rslora=self.use_rslora)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the LoRA variants in use, such as DoRA; empty for plain LoRA with one rank for all layers."""
        rank = f"expert_rank {self.expert_rank}" if self.expert_rank != "r" else ""
        return tuple(filter(None, ("rsLoRA" * self.use_rslora, "DoRA" * self.use_dora, rank)))

    @property
    def flags(self) -> tuple[bool | None, ...]:
        """Unsloth's flags, in the order of FLAGS."""
        return tuple(getattr(self, flag) for flag in FLAGS)

    def validate(self) -> None:
        """Raise InvalidSettingError for an invalid value; the message says which value to change, and its limits.
        Target names are checked later, against a model (lora.resolve)."""
        whole(self.r, "Rank", 1, MAX_RANK)
        number(self.lora_alpha, "Alpha", 0, MAX_ALPHA, above=True)
        if not self.target_modules or (not isinstance(self.target_modules, str) and not all(self.target_modules)):
            raise InvalidSettingError(NO_TARGETS)
        if isinstance(self.target_modules, str):
            named(self.target_modules, "The preset of target modules")
        else:
            module_names(self.target_modules, "A target module")
        module_names(self.modules_to_save, "A module to save")
        one_of(self.moe_scheme, "MoE scheme", MOE_SCHEMES)
        if self.expert_rank not in EXPERT_RANKS:
            whole(self.expert_rank, f"expert_rank, unless it is one of {', '.join(EXPERT_RANKS)},", 1, MAX_RANK)
        one_of(self.unsloth_class, "Unsloth class", UNSLOTH_CLASSES)
        for name in ("text_only", *FLAGS):
            value = getattr(self, name)
            if value is not None or name not in FLAGS:
                flag(value, name)


def adapter_dtype(
    framework: Framework, precision: str, *, cuda: bool = True, compute: Dtype = "bf16"
) -> Literal["fp32", "bf16"]:
    """Return the dtype in which lora_A and lora_B are trained and saved. compute: Dtype of products with a quantized
    base.

    PEFT casts adapters on a 16-bit base to fp32 (tuners_utils.cast_adapter_dtype). Unsloth on a GPU trains all adapters
    in fp32 (unsloth_zoo training_utils). TRL's SFTTrainer (sft_trainer.py, "_is_quantized_model") and Unsloth's CPU
    backend (cuda=False) cast adapters on a quantized base to bf16. Where that base computes in another dtype, RankViz's
    scripts and probes cast them back to fp32, since fp16's gradient scaler refuses bf16.
    """
    by_trl = framework == "trl" or (framework == "unsloth" and not cuda)
    return "bf16" if by_trl and precision in QUANTIZED and compute == "bf16" else "fp32"


def saved_dtype(framework: Framework, precision: str, *, compute: Dtype = "bf16", trained: bool = True) -> Dtype:
    """Return the dtype of modules that are saved in full. They are copies of the base's modules, so it is the base's
    dtype.

    Unsloth (unsloth_zoo training_utils.py) and RankViz's scripts for TRL and PEFT cast trained fp16 copies to fp32,
    which the gradient scaler needs. Plain PEFT scripts cast all unquantized parts of a quantized base to fp32 first
    (prepare_model_for_kbit_training). trained: False for the frozen weight that PEFT saves beside a LoRA pair on it.
    """
    if precision == "fp32" or (framework == "peft" and precision in QUANTIZED):
        return "fp32"
    half = compute if precision in QUANTIZED else "fp16" if precision == "fp16" else "bf16"
    return "fp32" if trained and half == "fp16" else half


def scale_at(r: int, lora_alpha: float, *, use_rslora: bool) -> float:
    """Return the factor by which B·A is multiplied: alpha / r, or alpha / sqrt(r) with rsLoRA."""
    return lora_alpha / (r**0.5 if use_rslora else r)


def settle_rank(question: Any, usual_ranks: tuple[int, ...], usual_alpha: str) -> None:
    """Fill in `ranks` and `lora_alpha` of a question or sweep where they are None: from its `lora` if that gives rank
    and alpha, else with the usual values. Where only `lora` gives alpha, equal to its rank, the rule is "r". Afterwards
    r and lora_alpha of `lora` are defaults again. Raise InvalidSettingError where both places give different values."""
    lora = question.lora
    ranks, alpha, twice = question.ranks, question.lora_alpha, "{} given twice, in LoraConfig and beside it: {} and {}."
    r_given, alpha_given = not isinstance(lora.r, Usual), not isinstance(lora.lora_alpha, Usual)
    if not (r_given or alpha_given) and None not in (ranks, alpha):
        return
    plain = LoraConfig()
    if r_given and ranks is not None and lora.r not in ranks:
        raise InvalidSettingError(twice.format("The rank is", lora.r, ", ".join(map(str, ranks))))
    if alpha_given and alpha is not None and lora_alpha(alpha, lora.r) != lora.lora_alpha:
        raise InvalidSettingError(twice.format("Alpha is", f"{lora.lora_alpha:g}", alpha))
    if r_given or alpha_given:
        usual_alpha = "r" if lora.lora_alpha == lora.r and ranks is None else repr(lora.lora_alpha)
        usual_ranks = (int(lora.r) if isinstance(lora.r, Usual) else lora.r,)
    settled = {
        "ranks": usual_ranks if ranks is None else ranks,
        "lora_alpha": usual_alpha if alpha is None else alpha,
        "lora": replace(lora, r=plain.r, lora_alpha=plain.lora_alpha),
    }
    for name, value in settled.items():
        object.__setattr__(question, name, value)


def lora_alpha(alpha: str, r: int) -> float:
    """Return alpha at rank r. alpha: "r", "2r" or a number as text; raise InvalidSettingError for any other text."""
    rule = str(alpha).strip().lower()
    if rule in ("r", "2r"):
        return float(r if rule == "r" else 2 * r)
    try:
        value = float(rule)
    except ValueError:
        value = math.nan
    if not 0 < value <= MAX_ALPHA:
        raise InvalidSettingError(
            f"Alpha must be r, 2r or a number above 0 and at most {MAX_ALPHA:,} (got {quoted(alpha)})."
        )
    return value
