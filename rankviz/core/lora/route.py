"""By whose rule target names reach modules: PEFT's own, or one of Unsloth's.

- "peft": TRL and plain PEFT hand names to PEFT.
- "own": Unsloth's FastLanguageModel on a family it has kernels for (models/loader.py) hands them to PEFT too.
- "model": FastModel, which also serves FastLanguageModel for every other family and for 8-bit bases. It makes a pattern
  of the names where a flag is off (pattern.py). FastLanguageModel turns vision layers off (models/llama.py,
  get_peft_model), so there every list of names becomes a pattern.
- "cpu": Unsloth's CPU backend (unsloth_zoo/cpu/loader.py) adds fused projections, and leaves PEFT's rewrite of experts.
  It has one class under all names, and drops the flags.

Read in unsloth 2026.10.9; compared with its get_peft_model in tests/core/lora/test_counts_against_unsloth.py.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from rankviz.core.lora.config import FLAGS, Framework, LoraConfig, UnslothClass
from rankviz.core.lora.targets import listed
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

OWN_FAMILIES = ("llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3")
"""model_types that models/loader.py dispatches to FastLlamaModel and its kin."""
SPLIT_FAMILIES = ("gpt_oss",)
"""model_types whose 4-bit checkpoint has each expert's projections as linear layers of their own (models/mapper.py)."""


class Flags(NamedTuple):
    """Unsloth's four flags, settled."""

    vision: bool = True
    language: bool = True
    attention: bool = True
    mlp: bool = True


ALL_ON = Flags()


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One rule, with what it depends on."""

    framework: Framework
    kind: Literal["peft", "own", "model", "cpu"]
    unsloth_class: UnslothClass = "FastLanguageModel"
    flags: Flags = ALL_ON
    flags_given: bool = False
    """Whether the configuration sets a flag, instead of leaving all to the class's defaults."""
    split_experts: bool = False
    """Experts are linear layers, one each, instead of one fused parameter."""

    @property
    def scoped(self) -> bool:
        """Whether a list of names becomes a pattern."""
        return self.kind == "model" and not all(self.flags)

    @property
    def unsloth_on_gpu(self) -> bool:
        return self.kind in ("own", "model")


def route_of(model: ModelSpec, lora: LoraConfig, framework: Framework, *, precision: str, cuda: bool) -> Route:
    """The rule for this model and configuration; InvalidSettingError where Unsloth takes no flags, or follows none.

    precision: of the base, "auto" settled. cuda: whether it is trained on a GPU.
    """
    if framework != "unsloth":
        return Route(framework=framework, kind="peft")
    if not cuda:
        _refuse_on_cpu(lora)
        return Route(framework=framework, kind="cpu")
    fast = lora.unsloth_class == "FastLanguageModel"
    if fast and model.model_type in OWN_FAMILIES and precision != "int8":
        given = [flag for flag, value in zip(FLAGS, lora.flags, strict=True) if value is not None]
        if given:
            raise InvalidSettingError(
                f"Unsloth's FastLanguageModel takes no {given[0]} for {model.model_type} models. Leave it out, or "
                "choose the Unsloth class FastModel."
            )
        return Route(framework=framework, kind="own")
    defaults = Flags(vision=not fast)
    flags = Flags(*(own if own is not None else default for own, default in zip(lora.flags, defaults, strict=True)))
    _refuse_empty(flags)
    split = has_split_file(model) and precision in ("nf4", "nf4-dq")
    return Route(
        framework=framework,
        kind="model",
        unsloth_class=lora.unsloth_class,
        flags=flags,
        flags_given=any(flag is not None for flag in lora.flags),
        split_experts=split,
    )


def has_split_file(model: ModelSpec) -> bool:
    """Whether a 4-bit load of this name fetches a file with a linear layer for each expert. Other checkpoints of the
    family hold stacks, which are loaded as stacks (models/loader.py)."""
    checkpoint = model.unsloth_checkpoint
    split = model.model_type in SPLIT_FAMILIES and model.has_experts
    return split and checkpoint is not None and checkpoint.quantized


def flags_not_followed(lora: LoraConfig, framework: Framework, *, cuda: bool) -> tuple[str, ...]:
    """Flags that are off where the program that trains does not turn anything off for them.

    Without a GPU only text models are trained, so finetune_vision_layers can be off there.
    """
    if framework == "unsloth" and cuda:
        return ()
    off = tuple(flag for flag, value in zip(FLAGS, lora.flags, strict=True) if value is False)
    return tuple(flag for flag in off if cuda or flag != "finetune_vision_layers")


def _refuse_on_cpu(lora: LoraConfig) -> None:
    if off := flags_not_followed(lora, "unsloth", cuda=False):
        raise InvalidSettingError(
            f"{listed(off)} cannot be off here: without a GPU, Unsloth trains all that the target modules name. "
            f"Leave {'them' if len(off) > 1 else 'it'} out, or choose other target modules, such as attention or mlp."
        )


def _refuse_empty(flags: Flags) -> None:
    if not flags.vision and not flags.language:
        raise InvalidSettingError(
            "finetune_vision_layers and finetune_language_layers are both off, so nothing would train. "
            "Turn one of them on."
        )
    if not flags.attention and not flags.mlp:
        raise InvalidSettingError(
            "finetune_attention_modules and finetune_mlp_modules are both off, so nothing would train. "
            "Turn one of them on."
        )
