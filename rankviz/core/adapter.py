"""An adapter before it exists: which modules carry it, how many parameters it trains, how large its file is.

`resolve` does what PEFT does when it wraps a model, without the model: names to modules, the MoE scheme, embeddings
and head, what is refused. The plan it returns knows every rank.

A LoRA pair on a layer adds r · (in + out), on a fused parameter of E experts r · E · (in + out), twice that where PEFT
doubles the rank; DoRA adds one magnitude an output. modules_to_save are trained in full. Not counted: lora_bias,
trainable tokens, LoRA on convolutions. Compared with PEFT for every catalogue model in
tests/test_counts_against_peft.py.
"""

import functools
from collections import Counter
from dataclasses import dataclass

from rankviz.core import moe
from rankviz.core.adapter_file import Group, Section, Tensor, file_bytes, sections
from rankviz.core.lora import MOE_SCHEMES, Framework, LoraConfig
from rankviz.core.model import LayerPart, LinearLayer, ModelSpec
from rankviz.core.notes import notes
from rankviz.core.saved import SavedModule, saved_modules
from rankviz.core.targets import ALL_LINEAR, LINEAR_KINDS, Matcher, expand, names_that_exist
from rankviz.errors import InvalidSettingError

PREFIX = "base_model.model."


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """A layer with its adapter, in the blocks where it has one."""

    layer: LinearLayer
    blocks: tuple[int, ...]
    module: str
    """Path of the module that PEFT wraps, as tensors name it; {} for the block's number."""
    rank_factor: int = 1
    """The pair's rank over r: the number of experts, doubled where PEFT doubles it."""

    @property
    def count(self) -> int:
        return len(self.blocks) or 1

    @property
    def per_rank(self) -> int:
        """Parameters per unit of r, all copies."""
        return self.count * self.rank_factor * (self.layer.in_features + self.layer.out_features)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleRow:
    """What one kind of module contributes."""

    name: str
    part: LayerPart
    count: int
    parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockGrid:
    """Parameters by block and module, for a heat map."""

    blocks: tuple[str, ...]
    """"0", "1", …; "vision 0", … for a second tower; "outside" for what is in no block."""
    modules: tuple[str, ...]
    parameters: tuple[tuple[int, ...], ...]
    """One row a block, one number a module."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterPlan:
    """One adapter configuration on one model, for any rank."""

    model: ModelSpec
    adapted: tuple[Adapted, ...]
    saved: tuple[SavedModule, ...]
    use_dora: bool
    target_modules: tuple[str, ...] | str
    """What to write into LoraConfig(target_modules=…)."""
    target_parameters: tuple[str, ...]
    """What to write into LoraConfig(target_parameters=…): experts, where the scheme names them by hand."""
    modules_to_save: tuple[str, ...]
    target_names: tuple[str, ...]
    """The modules that carry LoRA, by name, once each."""
    scheme: str
    """The MoE scheme in force; "dense" without fused experts."""
    notes: tuple[str, ...]
    per_rank: int
    fixed: int

    def parameters(self, r: int) -> int:
        """Trainable parameters, as PEFT's get_nb_trainable_parameters counts them."""
        return self.per_rank * r + self.fixed

    @property
    def layers(self) -> tuple[LinearLayer, ...]:
        """The layers that carry LoRA."""
        return tuple(adapted.layer for adapted in self.adapted)

    def file_bytes(self, r: int, dtype_bytes: int = 4, *, saved_dtype: str = "bf16") -> int:
        """Bytes of adapter_model.safetensors, header included.

        dtype_bytes: of lora_A and lora_B, 4 (fp32) or 2 (bf16); DoRA's magnitudes stay in fp32.
        saved_dtype: of what is saved in full (lora.saved_dtype).
        """
        saved = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}[saved_dtype]
        return file_bytes(self._sections(dtype_bytes, saved), r)

    @functools.cached_property
    def _known_sections(self) -> dict[tuple[int, str], tuple[Section, ...]]:
        return {}

    def _sections(self, dtype_bytes: int, saved_dtype: str) -> tuple[Section, ...]:
        key = (dtype_bytes, saved_dtype if self.saved else "")
        if key not in self._known_sections:
            self._known_sections[key] = sections(_groups(self, {4: "F32", 2: "BF16"}[dtype_bytes], saved_dtype))
        return self._known_sections[key]

    def by_module(self, r: int) -> tuple[ModuleRow, ...]:
        """Trainable parameters by module name, in the model's order; the rows add up to parameters(r)."""
        rows: dict[str, list[int]] = {}
        parts: dict[str, LayerPart] = {}
        for name, part, count, parameters in self._contributions(r):
            row = rows.setdefault(name, [0, 0])
            row[0] += count
            row[1] += parameters
            parts.setdefault(name, part)
        return tuple(
            ModuleRow(name=name, part=parts[name], count=count, parameters=parameters)
            for name, (count, parameters) in rows.items()
        )

    def _contributions(self, r: int):
        names = self._labels
        for adapted in self.adapted:
            dora = adapted.count * adapted.layer.out_features if self.use_dora else 0
            yield names[adapted.layer.path], adapted.layer.part, adapted.count, adapted.per_rank * r + dora
        for module in self.saved:
            if module.trained:
                yield f"{module.name} (in full)", module.part, 1, module.trained

    @functools.cached_property
    def _labels(self) -> dict[str, str]:
        """A name for each path: the last component, with the one before where different modules share it."""
        parents: dict[str, set[str]] = {}
        for adapted in self.adapted:
            parents.setdefault(adapted.layer.name, set()).add(_parent(adapted.layer))
        return {
            a.layer.path: f"{_parent(a.layer)}.{a.layer.name}".lstrip(".")
            if len(parents[a.layer.name]) > 1 or a.layer.kind == "experts"
            else a.layer.name
            for a in self.adapted
        }

    def by_block(self, r: int) -> BlockGrid:
        """Trainable parameters by block and module; all cells add up to parameters(r)."""
        cells: Counter[tuple[str, str]] = Counter()
        for adapted in self.adapted:
            each = (adapted.per_rank // adapted.count) * r + (adapted.layer.out_features if self.use_dora else 0)
            tower = "vision " if adapted.layer.part == "vision" else ""
            for block in adapted.blocks or ("outside",):
                where = block if block == "outside" else f"{tower}{block}"
                cells[where, self._labels[adapted.layer.path]] += each
        for module in self.saved:
            if module.trained:
                cells["outside", f"{module.name} (in full)"] += module.trained
        blocks = tuple(dict.fromkeys(block for block, _ in sorted(cells, key=lambda cell: _block_order(cell[0]))))
        modules = tuple(row.name for row in self.by_module(r))
        return BlockGrid(
            blocks=blocks,
            modules=modules,
            parameters=tuple(tuple(cells[block, module] for module in modules) for block in blocks),
        )


def resolve(model: ModelSpec, lora: LoraConfig) -> AdapterPlan:
    """What PEFT would make of this configuration on this model; rank and alpha don't enter.

    InvalidSettingError where PEFT refuses, or where nothing would carry the adapter.
    """
    return _resolve(model, lora.target_modules, lora.use_dora, lora.modules_to_save, lora.moe_scheme, lora.framework)


@functools.lru_cache(maxsize=512)
def _resolve(
    model: ModelSpec,
    target_modules: str | tuple[str, ...],
    use_dora: bool,
    modules_to_save: tuple[str, ...],
    moe_scheme: str,
    framework: Framework,
) -> AdapterPlan:
    if moe_scheme not in MOE_SCHEMES:
        raise InvalidSettingError(f"No MoE scheme {moe_scheme!r}: take {', '.join(MOE_SCHEMES)}.")
    scheme = moe.scheme_of(model, moe_scheme, framework)
    asked = expand(model, target_modules, expert_names=moe.expert_names(model, scheme))
    names, saved_names = asked, modules_to_save
    if framework == "unsloth" and asked != ALL_LINEAR:
        names, saved_names = _embeddings_to_save(asked, modules_to_save)
    targets = moe.apply_scheme(model, names, scheme)
    excluded = frozenset(saved_names)
    adapted = (
        *_adapted_modules(model, targets, excluded, unsloth=framework == "unsloth"),
        *_adapted_parameters(model, targets, excluded),
    )
    if not adapted:
        raise InvalidSettingError(_nothing_matched(model, asked, scheme))
    wrapped = [a for a in adapted if a.layer.kind in ("experts", "router")]
    if use_dora and wrapped:
        raise InvalidSettingError(
            f"DoRA does not work on {wrapped[0].layer.name}, a fused parameter of the experts (PEFT: lora.ParamWrapper "
            "does not work with use_dora=True). Turn DoRA off, or take the MoE scheme linear-only."
        )
    order = {id(layer): place for place, layer in enumerate(model.layers)}
    adapted = tuple(sorted(adapted, key=lambda a: order[id(a.layer)]))
    saved = saved_modules(
        model,
        saved_names,
        target_names=targets.modules if isinstance(targets.modules, tuple) else (),
        adapted_paths=frozenset(a.layer.path for a in adapted),
        tie=framework == "unsloth",
    )
    by_hand = scheme == "target-parameters" or (scheme == "unsloth" and framework != "unsloth")
    magnitudes = sum(a.count * a.layer.out_features for a in adapted) if use_dora else 0
    return AdapterPlan(
        model=model,
        adapted=adapted,
        saved=saved,
        use_dora=use_dora,
        target_modules=names,
        target_parameters=_by_hand(model, targets) if by_hand else (),
        modules_to_save=saved_names,
        target_names=tuple(dict.fromkeys(a.layer.name for a in adapted)),
        scheme=scheme,
        notes=notes(
            model,
            asked=asked,
            adapted=adapted,
            saved=saved,
            saved_names=saved_names,
            scheme=scheme,
            framework=framework,
            moved=saved_names[len(modules_to_save) :],
        ),
        per_rank=sum(a.per_rank for a in adapted),
        fixed=magnitudes + sum(module.trained for module in saved),
    )


def _by_hand(model: ModelSpec, targets: moe.Targets) -> tuple[str, ...]:
    return tuple(name for name in moe.expert_parameters(model) if name in targets.parameters)


def _embeddings_to_save(
    names: tuple[str, ...], modules_to_save: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Unsloth trains embed_tokens and lm_head in full where they are named as targets (_redirect_embedding_targets)."""
    moved = tuple(name for name in names if name.rsplit(".", 1)[-1] in ("embed_tokens", "lm_head"))
    rest = tuple(name for name in names if name not in moved)
    if moved and not rest:
        raise InvalidSettingError(
            f"Unsloth trains {' and '.join(moved)} in full, not by LoRA, so no target module is left: "
            "name at least one projection as well."
        )
    return rest, (*modules_to_save, *(name for name in moved if name not in modules_to_save))


def _adapted_modules(model: ModelSpec, targets: moe.Targets, excluded: frozenset[str], *, unsloth: bool):
    """Modules that target_modules hits."""
    if targets.modules == ALL_LINEAR:
        for layer in model.layers:
            if layer.kind in LINEAR_KINDS and not _is_saved(layer.path, excluded):
                _refuse_names(model, layer.path)
                yield Adapted(layer=layer, blocks=layer.blocks, module=layer.path)
        return
    matcher = Matcher(targets.modules)
    clippable = frozenset(model.clippable_linears) if unsloth else frozenset()
    for path in model.other_modules:
        if matcher.hits_path(path) and path not in clippable and not _is_saved(path, excluded):
            raise InvalidSettingError(_not_a_layer(model, path))
    for layer in model.layers:
        if layer.kind in ("experts", "router") or _is_saved(layer.path, excluded):
            continue
        blocks = matcher.blocks(layer.path, layer.blocks)
        if blocks is None and clippable and (wrapper := layer.path.rpartition(".")[0]) in clippable:
            blocks = matcher.blocks(wrapper, layer.blocks)
        if blocks is not None:
            _refuse_names(model, layer.path)
            yield Adapted(layer=layer, blocks=blocks, module=layer.path)


def _adapted_parameters(model: ModelSpec, targets: moe.Targets, excluded: frozenset[str]):
    """nn.Parameters that target_parameters hits. Two on one module nest, the later one outside."""
    if not targets.parameters:
        return
    matcher = Matcher(targets.parameters)
    hits = []
    for layer in model.layers:
        if layer.kind in ("experts", "router"):
            blocks = matcher.blocks(layer.path, layer.blocks)
            if blocks is not None:
                hits.append((layer, blocks))
    for place, (layer, blocks) in enumerate(hits):
        module = layer.path.rpartition(".")[0]
        later = sum(
            other.path.rpartition(".")[0] == module and other_blocks == blocks
            for other, other_blocks in hits[place + 1 :]
        )
        doubled = targets.gate_up_doubled and layer.name == "gate_up_proj"
        yield Adapted(
            layer=layer,
            blocks=blocks,
            module=module + ".base_layer" * later,
            rank_factor=layer.num_experts * (2 if doubled else 1),
        )


def _is_saved(path: str, excluded: frozenset[str]) -> bool:
    """PEFT puts no adapter on or under a module that it saves in full."""
    if not excluded:
        return False
    dotted = f".{path}."
    return any(f".{name}." in dotted for name in excluded)


def _refuse_names(model: ModelSpec, path: str) -> None:
    name = path.rsplit(".", 1)[-1]
    if name in model.refused_names:
        raise InvalidSettingError(
            f"PEFT refuses LoRA on {name} in {model.model_type} models, whose Mamba kernels read its weight directly. "
            "Take another preset, or name modules without it."
        )


def _not_a_layer(model: ModelSpec, path: str) -> str:
    name = path.rsplit(".", 1)[-1]
    if path in model.clippable_linears:
        return (
            f"PEFT can't put LoRA on {path.replace('{}', 'N')}: it wraps its linear layer. Take the text tower, name "
            f"{name}.linear with full paths, or train with Unsloth, which reaches in."
        )
    return (
        f"{path.replace('{}', 'N')} is no linear layer, and PEFT refuses LoRA on it. "
        f"Linear layers here: {', '.join(names_that_exist(model))}."
    )


def _nothing_matched(model: ModelSpec, asked: tuple[str, ...] | str, scheme: str) -> str:
    names = asked if isinstance(asked, str) else ", ".join(asked)
    experts = ""
    if moe.has_experts(model) and scheme == "linear-only":
        experts = " Its experts are fused parameters, which the MoE schemes unsloth and target-parameters reach."
    return (
        f"{names or 'This preset'} matches nothing in this model. "
        f"Linear layers here: {', '.join(names_that_exist(model))}.{experts}"
    )


def _parent(layer: LinearLayer) -> str:
    parts = layer.path.split(".")[: -1 - layer.name.count(".")]
    return parts[-1] if parts and parts[-1] != "{}" else ""


def _block_order(block: str) -> tuple[int, str, int]:
    tower, _, number = block.rpartition(" ")
    return (2, "", 0) if block == "outside" else (1 if tower else 0, tower, int(number))


def _groups(plan: AdapterPlan, dtype: str, saved_dtype: str) -> list[Group]:
    """The adapter's tensors as PEFT names them (save_pretrained), ready for the file's layout."""
    inside: dict[str, list[tuple[tuple[int, ...], Tensor]]] = {}
    outside: list[Group] = []
    for adapted in plan.adapted:
        before, has_number, after = (PREFIX + adapted.module).partition("{}")
        name = after if has_number else before
        for tensor in _tensors(adapted, name, dtype, dora=plan.use_dora):
            if has_number:
                inside.setdefault(before, []).append((adapted.blocks, tensor))
            else:
                outside.append(Group("", (((), tensor),)))
    for module in plan.saved:
        for suffix, shape in module.tensors:
            outside.append(Group("", (((), Tensor(f"{PREFIX}{module.path}{suffix}", saved_dtype, shape)),)))
    return [Group(prefix, tuple(tensors)) for prefix, tensors in inside.items()] + outside


def _tensors(adapted: Adapted, name: str, dtype: str, *, dora: bool):
    layer, factor = adapted.layer, adapted.rank_factor
    if layer.kind == "embedding":
        names = (".lora_embedding_A", ".lora_embedding_B")
    else:
        names = (".lora_A.weight", ".lora_B.weight")
    yield Tensor(name + names[0], dtype, (layer.in_features,), factor)
    yield Tensor(name + names[1], dtype, (layer.out_features,), factor)
    if dora:
        yield Tensor(f"{name}.lora_magnitude_vector", "F32", (layer.out_features,))
