"""LoRA configuration: what the user asks of the adapter, in PEFT's words."""

from dataclasses import dataclass
from typing import Literal

Framework = Literal["unsloth", "trl", "peft"]
MoeScheme = Literal["default", "linear-only", "peft-remap", "unsloth", "target-parameters"]

UNSLOTH_SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PRESETS = ("all-linear", "attention", "mlp", "qv", "unsloth")
MOE_SCHEMES: tuple[MoeScheme, ...] = ("default", "linear-only", "peft-remap", "unsloth", "target-parameters")
MAX_RANK = 1024

PEFT_VERSION = "0.21.2"
UNSLOTH_VERSION = "2026.10.9"
"""The versions whose code the rules of targets.py and moe.py were read from; tests compare with those installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """What the user asks of the adapter, in PEFT's words."""

    r: int = 16
    lora_alpha: float = 16
    target_modules: str | tuple[str, ...] = "unsloth"
    """A preset of PRESETS, or module names as PEFT matches them."""
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    moe_scheme: MoeScheme = "default"
    """How fused experts are treated; "default" is what the framework does by itself."""
    framework: Framework = "unsloth"

    @property
    def scale(self) -> float:
        """What B·A is multiplied by: alpha / r, with rsLoRA alpha / sqrt(r)."""
        return self.lora_alpha / (self.r**0.5 if self.use_rslora else self.r)
