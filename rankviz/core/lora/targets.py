"""Which modules a target name hits, and what the presets stand for on a given model.

PEFT matches a name against the end of a module's path, whole components only: "q_proj" and "self_attn.q_proj" hit
"model.layers.0.self_attn.q_proj", "proj" does not (peft 0.21.2, tuners_utils.check_target_module_exists). Compared
with PEFT for every catalogue model in tests/core/lora/test_counts_against_peft.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rankviz.core.lora.config import NO_TARGETS, PRESETS, UNSLOTH_SEVEN
from rankviz.core.model.spec import LayerPart, LinearLayer, ModelSpec
from rankviz.errors import InvalidSettingError

ALL_LINEAR = "all-linear"
LINEAR_KINDS = ("linear", "conv1d")
FUSED_QKV = ("qkv_proj", "query_key_value", "c_attn", "qkv", "Wqkv")
MLA_QKV = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
"""DeepSeek's multi-head latent attention: queries and keys-with-values through low-rank pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleChoice:
    """A name that exists in a model, for a list to tick."""

    name: str
    count: int
    part: LayerPart
    in_all_linear: bool


def names_in(text: str | None) -> tuple[str, ...]:
    """ "q_proj, v_proj" as names."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def listed(names: Iterable[str]) -> str:
    """ "a, b and c"."""
    names = list(names)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def targets_in(text: str) -> str | tuple[str, ...]:
    """Target modules as people write them: a preset, or names with commas between."""
    return text.strip() if text.strip() in PRESETS else names_in(text)


def module_choices(model: ModelSpec) -> tuple[ModuleChoice, ...]:
    """Every last name that target_modules can hit, with how many modules it hits."""
    by_name: dict[str, list[LinearLayer]] = {}
    for layer in model.layers:
        if layer.kind not in ("experts", "router"):
            by_name.setdefault(layer.name, []).append(layer)
    return tuple(
        ModuleChoice(
            name=name,
            count=sum(layer.count for layer in layers),
            part=next((layer.part for layer in layers if layer.part != "vision"), "vision"),
            in_all_linear=any(layer.kind in LINEAR_KINDS for layer in layers),
        )
        for name, layers in by_name.items()
    )


def names_that_exist(model: ModelSpec) -> tuple[str, ...]:
    """The names of linear layers, for a message."""
    return tuple(choice.name for choice in module_choices(model) if choice.in_all_linear)


def hit_blocks(path: str, blocks: tuple[int, ...], target: str) -> tuple[int, ...] | None:
    """The blocks in which the target hits this path; None for no hit, () for a hit on a path without blocks."""
    have, want = path.split("."), target.split(".")
    if len(want) > len(have):
        return None
    block = None
    for mine, theirs in zip(reversed(have), reversed(want), strict=False):
        if mine == "{}" and theirs.isdecimal():
            block = int(theirs)
        elif mine != theirs:
            return None
    if block is None:
        return blocks
    return (block,) if block in blocks else None


class PatternMatcher:
    """As Matcher, for a pattern that hits whole paths in all their blocks."""

    def __init__(self, hits: Callable[[str], bool]):
        self.hits_path = hits

    def blocks(self, path: str, blocks: tuple[int, ...]) -> tuple[int, ...] | None:
        return blocks if self.hits_path(path) else None


class Matcher:
    """Target names, ready to be held against many paths. A name with {} in it is a whole path, in all its blocks."""

    def __init__(self, targets: Iterable[str]):
        self.targets = tuple(targets)
        self.bare = frozenset(target for target in self.targets if "." not in target)
        self.numbers = tuple(target for target in self.bare if target.isdecimal())
        self.paths = frozenset(target for target in self.targets if "{}" in target)
        self.dotted = tuple(target for target in self.targets if "." in target and target not in self.paths)

    def blocks(self, path: str, blocks: tuple[int, ...]) -> tuple[int, ...] | None:
        """As hit_blocks, for all targets together."""
        if path.rsplit(".", 1)[-1] in self.bare or path in self.paths:
            return blocks
        if not self.dotted:
            return None
        hits = [hit for target in self.dotted if (hit := hit_blocks(path, blocks, target)) is not None]
        if not hits:
            return None
        return (
            max(hits, key=len) if len(hits) == 1 or blocks in hits else tuple(sorted({b for hit in hits for b in hit}))
        )

    def hits_path(self, path: str) -> bool:
        """Whether a target hits this path in some block."""
        if path.rsplit(".", 1)[-1] in self.bare:
            return True
        return any(_shape_hits(path, target) for target in (*self.dotted, *self.numbers))


def _shape_hits(path: str, target: str) -> bool:
    have, want = path.split("."), target.split(".")
    return len(want) <= len(have) and all(
        mine == theirs or (mine == "{}" and theirs.isdecimal())
        for mine, theirs in zip(reversed(have), reversed(want), strict=False)
    )


def expand(
    model: ModelSpec, targets: str | tuple[str, ...], *, expert_names: tuple[str, ...], bare: bool = False
) -> tuple[str, ...] | str:
    """The names that a preset stands for: "all-linear" stays, lists pass through.

    expert_names: what reaches the experts by name under the MoE scheme at hand; the preset "mlp" adds them.
    bare: last names only, for a pattern that takes no others and looks at the path before them itself.
    """
    if not isinstance(targets, str):
        if not targets:
            raise InvalidSettingError(NO_TARGETS)
        return tuple(dict.fromkeys(targets))
    match targets:
        case "all-linear":
            return ALL_LINEAR
        case "unsloth":
            return UNSLOTH_SEVEN
        case "attention":
            return _last(minimal_names(model, "attention"), bare)
        case "mlp":
            return _last((*minimal_names(model, "mlp"), *expert_names), bare)
        case "qv":
            return query_value_names(model)
    raise InvalidSettingError(
        f"Target modules must be one of {', '.join(PRESETS)}, or a list of module names (got {targets!r})."
    )


def _last(names: Iterable[str], bare: bool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.rsplit(".", 1)[-1] if bare else name for name in names))


def minimal_names(model: ModelSpec, part: LayerPart) -> tuple[str, ...]:
    """The shortest names that hit all of one part and nothing else: "q_proj", but "attn.c_proj" on GPT-2.

    Names can't tell a text tower from a second tower that uses the same ones; those hits are let through (and said,
    notes.py), since whoever types the bare name gets them too.
    """
    wanted = [layer for layer in model.layers if layer.part == part and layer.kind in LINEAR_KINDS]
    others = [layer.path for layer in model.layers if layer.part not in (part, "vision") and layer.kind in LINEAR_KINDS]
    clippable = set(model.clippable_linears)
    others += [path for path in model.other_modules if path not in clippable]
    return tuple(dict.fromkeys(_shortest_name(layer.path, others) for layer in wanted))


def _shortest_name(path: str, others: Sequence[str]) -> str:
    """The shortest suffix of path, without a block number in it, that ends none of the others."""
    parts = path.split("{}.")[-1].split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[-length:])
        if not any(_shape_hits(other, name) for other in others):
            return name
    return ".".join(parts)


def query_value_names(model: ModelSpec) -> tuple[str, ...]:
    """q_proj and v_proj, LoRA's original pair; where a model has no such layers, what holds them."""
    names = {layer.name for layer in model.layers if layer.kind in LINEAR_KINDS}
    text = {layer.name for layer in model.layers if layer.kind in LINEAR_KINDS and layer.part != "vision"}
    if "kv_b_proj" in text:
        return tuple(name for name in MLA_QKV if name in text)
    if {"q_proj", "v_proj"} <= text:
        return ("q_proj", "v_proj")
    for fused in FUSED_QKV:
        if fused in text:
            return (fused,)
    raise InvalidSettingError(
        f"This model has neither q_proj and v_proj nor a fused projection of them; it has {', '.join(sorted(names))}."
    )
