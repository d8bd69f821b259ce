"""Configuration of a LoRA adapter, in PEFT's words."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rankviz.core.bounds import module_names, named, number, one_of, whole
from rankviz.errors import InvalidSettingError, quoted

Framework = Literal["unsloth", "trl", "peft"]
Dtype = Literal["fp32", "fp16", "bf16"]
MoeScheme = Literal["default", "linear-only", "peft-remap", "unsloth", "target-parameters"]
UnslothClass = Literal["FastLanguageModel", "FastModel"]
UNSLOTH_SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PRESETS = ("all-linear", "attention", "mlp", "qv", "unsloth")
MOE_SCHEMES: tuple[MoeScheme, ...] = get_args(MoeScheme)
UNSLOTH_CLASSES: tuple[UnslothClass, ...] = get_args(UnslothClass)
EXPERT_RANKS = ("r", "r/active", "r/all")
"""Rules for each expert's rank: r, r divided by the experts active for a token, or r divided by all; at least 1."""
FLAGS = ("finetune_vision_layers", "finetune_language_layers", "finetune_attention_modules", "finetune_mlp_modules")
"""Unsloth's four flags: fields of LoraConfig, and arguments of get_peft_model."""
NO_TARGETS = f"No target modules are given. Name some, or use one of {', '.join(PRESETS)}."
MAX_RANK = 1024
MAX_ALPHA = 1_000_000
QUANTIZED = ("nf4", "nf4-dq", "int8")
PEFT_VERSION = "0.21.2"
UNSLOTH_VERSION = "2026.10.9"
"""Versions whose code targets.py and experts.py follow; tests compare them with those installed."""


class Usual(int):
    """Default value of a number, distinct from an equal number that is given; `replace` copies it as a default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Configuration of an adapter, in PEFT's words."""

    r: int = Usual(16)
    lora_alpha: float = Usual(16)
    target_modules: str | tuple[str, ...] = "unsloth"
    """A preset of PRESETS, or module names as PEFT matches them."""
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    moe_scheme: MoeScheme = "default"
    """Treatment of fused experts; "default" is the framework's own."""
    expert_rank: int | str = "r"
    """Rank of each expert (PEFT's rank_pattern): a rule of EXPERT_RANKS or a number. The experts' alpha follows
    (alpha_pattern), so that alpha / r is that of the other layers."""
    unsloth_class: UnslothClass = "FastLanguageModel"
    """Unsloth class whose get_peft_model attaches the adapter. FastVisionModel is FastModel by another name."""
    text_only: bool = False
    """True where Unsloth's from_pretrained loads a multimodal checkpoint's text model alone, without other towers."""
    finetune_vision_layers: bool | None = None
    """Unsloth's flags. None is the class's default: all on, but no vision layers with FastLanguageModel."""
    finetune_language_layers: bool | None = None
    finetune_attention_modules: bool | None = None
    finetune_mlp_modules: bool | None = None

    def __post_init__(self):
        """Turn lists, as PEFT has them, into tuples; strip spaces around a preset and inside an expert rank."""
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
        """Factor by which B·A is multiplied: alpha / r, with rsLoRA alpha / sqrt(r)."""
        return scale(self.r, self.lora_alpha, use_rslora=self.use_rslora)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants in use besides plain LoRA of one rank."""
        rank = f"expert_rank {self.expert_rank}" if self.expert_rank != "r" else ""
        return tuple(filter(None, ("rsLoRA" * self.use_rslora, "DoRA" * self.use_dora, rank)))

    @property
    def flags(self) -> tuple[bool | None, ...]:
        """Unsloth's flags, in the order of FLAGS."""
        return tuple(getattr(self, flag) for flag in FLAGS)

    def validate(self) -> None:
        """Raise InvalidSettingError, which says which value to change and its limits, for an invalid value.
        lora.resolve checks the names against a model."""
        whole(self.r, "Rank", 1, MAX_RANK)
        number(self.lora_alpha, "Alpha", 0, MAX_ALPHA, above=True)
        if not self.target_modules or (not isinstance(self.target_modules, str) and not all(self.target_modules)):
            raise InvalidSettingError(NO_TARGETS)
        if isinstance(self.target_modules, str):
            named(self.target_modules, "The preset of target modules")
        else:
            module_names(self.target_modules, "A target module")
        if isinstance(self.modules_to_save, str):
            raise InvalidSettingError("modules_to_save must be a list of names, not a text.")
        module_names(self.modules_to_save, "A module to save")
        one_of(self.moe_scheme, "MoE scheme", MOE_SCHEMES)
        if self.expert_rank not in EXPERT_RANKS:
            whole(self.expert_rank, f"expert_rank, unless it is one of {', '.join(EXPERT_RANKS)},", 1, MAX_RANK)
        one_of(self.unsloth_class, "Unsloth class", UNSLOTH_CLASSES)
        for name in ("text_only", *FLAGS):
            value = getattr(self, name)
            if not (isinstance(value, bool) or (value is None and name in FLAGS)):
                raise InvalidSettingError(f"{name} must be true or false (got {value!r}).")


def scale(r: int, lora_alpha: float, *, use_rslora: bool) -> float:
    """Return alpha / r, with rsLoRA alpha / sqrt(r)."""
    return lora_alpha / (r**0.5 if use_rslora else r)


def adapter_dtype(
    framework: Framework, precision: str, *, cuda: bool = True, compute: Dtype = "bf16"
) -> Literal["fp32", "bf16"]:
    """Return the dtype in which lora_A and lora_B are trained and saved. compute: what a quantized base is multiplied
    in.

    PEFT raises adapters on a 16-bit base to fp32 (tuners_utils.cast_adapter_dtype), Unsloth always trains them in fp32
    (unsloth_zoo training_utils), and TRL's SFTTrainer casts them to bf16 when the base is quantized (sft_trainer.py,
    "_is_quantized_model"), as does Unsloth's CPU backend (cuda=False). fp16's gradient scaler refuses bf16, so where a
    quantized base is not computed in bf16 RankViz's scripts and probes raise them again.
    """
    by_trl = framework == "trl" or (framework == "unsloth" and not cuda)
    return "bf16" if by_trl and precision in QUANTIZED and compute == "bf16" else "fp32"


def saved_dtype(framework: Framework, precision: str, *, compute: Dtype = "bf16", trained: bool = True) -> Dtype:
    """Return the dtype of modules that are saved in full: the base's own, since they are copies of its modules.

    Trained copies in fp16 are raised to fp32, which the gradient scaler needs: by Unsloth (unsloth_zoo
    training_utils.py), and by RankViz's scripts for TRL and PEFT. Plain PEFT scripts raise all unquantized parts of a
    quantized base first (prepare_model_for_kbit_training). trained: False for the frozen weight that PEFT saves beside
    a LoRA pair on it.
    """
    if precision == "fp32" or (framework == "peft" and precision in QUANTIZED):
        return "fp32"
    half = compute if precision in QUANTIZED else "fp16" if precision == "fp16" else "bf16"
    return "fp32" if trained and half == "fp16" else half


def settle_rank(question: Any, usual_ranks: tuple[int, ...], usual_alpha: str) -> None:
    """Fill in `ranks` and `alpha` of a question or a sweep where they are None: from its `lora`, where rank and alpha
    are given there, else with the usual values. An alpha given in `lora` alone that equals the rank follows it ("r").
    `lora` then gets its defaults back. Raise InvalidSettingError where a value is given in both places and differs."""
    lora, plain = question.lora, LoraConfig()
    ranks, alpha, twice = question.ranks, question.alpha, "{} given twice, in LoraConfig and beside it: {} and {}."
    r_given, alpha_given = not isinstance(lora.r, Usual), not isinstance(lora.lora_alpha, Usual)
    if r_given and ranks is not None and lora.r not in ranks:
        raise InvalidSettingError(twice.format("The rank is", lora.r, ", ".join(map(str, ranks))))
    if alpha_given and alpha is not None and lora_alpha(alpha, lora.r) != lora.lora_alpha:
        raise InvalidSettingError(twice.format("Alpha is", f"{lora.lora_alpha:g}", alpha))
    if r_given or alpha_given:
        usual_alpha = "r" if lora.lora_alpha == lora.r and ranks is None else repr(lora.lora_alpha)
        usual_ranks = (int(lora.r) if isinstance(lora.r, Usual) else lora.r,)
    settled = {
        "ranks": usual_ranks if ranks is None else ranks,
        "alpha": usual_alpha if alpha is None else alpha,
        "lora": replace(lora, r=plain.r, lora_alpha=plain.lora_alpha),
    }
    for name, value in settled.items():
        object.__setattr__(question, name, value)


def lora_alpha(alpha: str, r: int) -> float:
    """Return alpha at rank r by the rule "r", "2r" or a number; raise InvalidSettingError for another text."""
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
