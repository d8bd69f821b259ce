"""What PEFT and Unsloth refuse, in one sentence with what to do instead."""

from rankviz.core.lora import pattern
from rankviz.core.lora.config import FLAGS, UNSLOTH_VERSION
from rankviz.core.lora.moe import Targets, expert_parameters
from rankviz.core.lora.route import ALL_ON, Flags, Route
from rankviz.core.lora.targets import ALL_LINEAR, listed, names_that_exist
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError


def refuse_names(model: ModelSpec, path: str) -> None:
    """InvalidSettingError for a module that PEFT keeps LoRA off in this family."""
    name = path.rsplit(".", 1)[-1]
    if name in model.refused_names:
        raise InvalidSettingError(
            f"PEFT refuses LoRA on {name} in {model.model_type} models, whose Mamba kernels read its weight directly. "
            "Choose another preset, or name modules without it."
        )


def refuse_scheme(scheme: str, route: Route) -> None:
    """InvalidSettingError for a MoE scheme that Unsloth does not leave to PEFT on a GPU."""
    if scheme == "peft-remap" and route.unsloth_on_gpu:
        raise InvalidSettingError(
            f"Unsloth {UNSLOTH_VERSION} trains experts in its own way on a GPU, so the MoE scheme peft-remap has no "
            "effect there. Choose the scheme unsloth, or framework trl or peft."
        )
    if scheme == "target-parameters" and route.split_experts:
        raise InvalidSettingError(
            f"In 4 bit Unsloth {UNSLOTH_VERSION} loads this model with a linear layer for each expert's projection, so "
            "target_parameters names nothing. Choose the MoE scheme unsloth."
        )


def refuse_split(model: ModelSpec, targets: Targets) -> None:
    """InvalidSettingError for a name that hits a list of split experts, or one expert of it."""
    for layer in model.layers:
        if layer.kind != "experts":
            continue
        path = f"{layer.path}s"
        if targets.matcher.hits_path(path):
            raise InvalidSettingError(not_a_layer(model, path))
        if any(targets.matcher.hits_path(f"{path}.{expert}") for expert in range(layer.num_experts)):
            raise InvalidSettingError(
                f"These target modules hit single experts in {path.replace('{}', 'N')}. RankViz counts all experts or "
                f"none: name {layer.name} instead."
            )


def refuse_unmatched(
    model: ModelSpec, targets: str | tuple[str, ...], names: tuple[str, ...] | str, route: Route
) -> None:
    """InvalidSettingError where Unsloth makes a pattern and finds no linear layer for it.

    targets: as chosen, a preset or names. names: what Unsloth is given.
    """
    flags = ALL_ON if names == ALL_LINEAR else route.flags
    given = pattern.chosen_names(model) if names == ALL_LINEAR else names
    split = (f"{layer.path}s.0" for layer in model.layers if layer.kind == "experts" and route.split_experts)
    if pattern.refused(model, given, flags, experts=tuple(split)):
        what = f"Preset {targets}" if isinstance(targets, str) else listed(targets)
        raise InvalidSettingError(f"{what}: Unsloth {UNSLOTH_VERSION} stops here. {_why(model, given, flags)}")


def _why(model: ModelSpec, names: tuple[str, ...], flags: Flags) -> str:
    if any(layer.kind == "conv1d" for layer in model.layers):
        return (
            f"It looks for linear layers, and those of {model.model_type} are Conv1D. Choose the Unsloth class "
            "FastModel with module names, or framework trl or peft."
        )
    parameters = {name.rsplit(".", 1)[-1] for name in expert_parameters(model)}
    if parameters and set(names) & {*pattern.EXPERT_NAMES, *parameters}:
        return (
            "Only experts have these names, and it needs a linear layer as well. Add one such as q_proj, or choose "
            "the Unsloth class FastModel."
        )
    if any("." in name for name in names):
        return f"It takes last names without dots. Linear layers here: {', '.join(names_that_exist(model))}."
    return (
        f"These names match no linear layer inside attention or MLP with {_scope(flags)}. Choose the Unsloth class "
        f"FastModel, or other names. Linear layers here: {', '.join(names_that_exist(model))}."
    )


def _scope(flags: Flags) -> str:
    off = [flag for flag, on in zip(FLAGS, flags, strict=True) if not on]
    return f"{listed(off)} off" if off else "all flags on"


def not_a_layer(model: ModelSpec, path: str) -> str:
    """A name hits a module that PEFT cannot wrap."""
    name = path.rsplit(".", 1)[-1]
    if path in model.clippable_linears:
        return (
            f"PEFT cannot put LoRA on {path.replace('{}', 'N')}, which wraps its linear layer. Choose the text tower, "
            f"name {name}.linear with full paths, or train with Unsloth, which reaches the inner layer."
        )
    return (
        f"{path.replace('{}', 'N')} is not a linear layer, and PEFT refuses LoRA on it. "
        f"Linear layers here: {', '.join(names_that_exist(model))}."
    )


def nothing_matched(
    model: ModelSpec, requested: tuple[str, ...] | str, scheme: str, saved_names: tuple[str, ...]
) -> str:
    """No module and no parameter is hit, those aside that are saved in full."""
    names = (requested,) if isinstance(requested, str) else requested
    verb = "match" if len(names) > 1 else "matches"
    outside = f" outside of modules_to_save ({', '.join(saved_names)})" if saved_names else ""
    experts = ""
    if model.has_experts and scheme == "linear-only":
        experts = " Its experts are fused parameters, which the MoE schemes unsloth and target-parameters reach."
    step = "" if requested == ALL_LINEAR else " Choose all-linear or one of the layers above."
    return (
        f"{', '.join(names) or 'This preset'} {verb} nothing in this model{outside}. "
        f"Linear layers here: {', '.join(names_that_exist(model))}.{experts}{step}"
    )
