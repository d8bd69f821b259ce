"""Describes an adapter at any rank: its modules, modules saved in full, parameters, and the bytes of its file."""

import functools
import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from rankviz.core.lora.config import FLAGS, Dtype, Framework, LoraConfig, adapter_dtype, saved_dtype
from rankviz.core.lora.saved import SavedModule, Tensor
from rankviz.core.lora.targets import Route
from rankviz.core.model.spec import LinearLayer, ModelSpec
from rankviz.core.quantity import brief

DTYPE_BYTES = {"F32": 4, "BF16": 2, "F16": 2}
"""Bytes per element by dtype, in the order in which safetensors sorts dtypes."""
SAFETENSORS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
PREFIX = "base_model.model."
_EMPTY_HEADER = len('{"__metadata__":{"format":"pt"}}')
_ENTRY = len(',"":{"dtype":"","shape":[],"data_offsets":[,]}')


class TensorEntry(NamedTuple):
    """One tensor with its whole name. header_bytes: Of its entry in the header, without name, rank and offsets."""

    name: str
    header_bytes: int
    size_bytes: int
    """Bytes of data, per unit of the rank where the tensor has one."""
    rank_factor: int
    of_expert: bool


@functools.lru_cache(maxsize=8192)
def safetensors_bytes(sections: tuple["Section", ...], r: int, expert_rank: int) -> int:
    """Return the bytes of a safetensors file at one rank. sections: Its tensors by dtype, in the order of the file."""
    header, data, end_digits = _EMPTY_HEADER, 0, 0
    for section in sections:
        header += section.constant
        for (factor, of_expert), tensors in section.rank_factors.items():
            header += tensors * len(str(factor * (expert_rank if of_expert else r)))
        end_digits += section.end_digits(r, expert_rank, data)
        data += section.end(-1, r, expert_rank)
    # Every end but the last is also the next tensor's start, and the first start is 0. The metadata's comma is there.
    header += 2 * end_digits - len(str(data)) + 1
    return 8 + -(-header // 8) * 8 + data


class Section:
    """All tensors of one dtype in an adapter file."""

    def __init__(self, entries: list[TensorEntry]):
        entries.sort()  # by name, as the file orders them
        self.count = len(entries)
        self.constant = sum(len(each.name) + each.header_bytes for each in entries)
        self.rank_factors = Counter((each.rank_factor, each.of_expert) for each in entries if each.rank_factor)
        kinds = [(2 if not each.rank_factor else int(each.of_expert), each.size_bytes) for each in entries]
        # Up to the end of each tensor: bytes per unit of r, per unit of the experts' rank, and those without a rank.
        self._ends = [array("q", accumulate(size * (kind == each) for kind, size in kinds)) for each in range(3)]

    def end(self, place: int, r: int, expert_rank: int) -> int:
        """Return the bytes from the section's start to the end of the tensor at this place."""
        others, experts, fixed = self._ends
        return others[place] * r + experts[place] * expert_rank + fixed[place]

    def end_digits(self, r: int, expert_rank: int, offset: int) -> int:
        """Return the number of digits in all tensors' end offsets. offset: The section's start."""
        digits, power, places = self.count, 10, range(self.count)
        while power <= offset + self.end(-1, r, expert_rank):
            digits += self.count - bisect_left(places, power - offset, key=lambda at: self.end(at, r, expert_rank))
            power *= 10
        return digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """One layer with a LoRA pair, in all blocks where the layer has one."""

    layer: LinearLayer
    blocks: tuple[int, ...]
    module: str
    """Path of the module that PEFT wraps, as in tensor names, with {} in place of the block's number."""
    rank_factor: int = 1
    """Rank of the LoRA pair over r (or the experts' rank): 1, or the number of experts, doubled where PEFT does so."""
    transposed: bool = False
    """True where A reads the layer's outputs: Unsloth declares these parameters as stored transposed."""
    split: bool = False
    """True where each expert is a linear layer with its own LoRA pair; `module` is then their list's path."""

    @property
    def count(self) -> int:
        return len(self.blocks) or 1

    @property
    def is_expert(self) -> bool:
        return self.layer.kind == "experts"

    @property
    def per_rank(self) -> int:
        """Parameters per unit of rank, in all blocks together."""
        return self.count * self.rank_factor * (self.layer.in_features + self.layer.out_features)

    @property
    def magnitudes(self) -> int:
        """Parameters of DoRA in all blocks together: one for each output of each LoRA pair."""
        return self.count * self.layer.out_features * self.layer.num_experts

    def tensors(self, *, dora: bool) -> Iterator[Tensor]:
        """Yield the tensors of this layer in one block, with PEFT's names after `module`."""
        layer, factor = self.layer, 1 if self.split else self.rank_factor
        into, out_of, magnitude = (layer.in_features,), (layer.out_features,), (layer.out_features,)
        if self.transposed:
            into, out_of = out_of, into
        names = (".lora_A.weight", ".lora_B.weight")
        if layer.kind == "embedding":
            names = (".lora_embedding_A", ".lora_embedding_B")
        elif layer.kernel:
            ones = (1,) * len(layer.kernel)
            into = (layer.in_features // math.prod(layer.kernel), *layer.kernel)
            out_of, magnitude = (*out_of, *ones), (1, *magnitude, *ones)
        for place in [f".{expert}" for expert in range(layer.num_experts)] if self.split else [""]:
            yield Tensor(place + names[0], into, rank_factor=factor)
            yield Tensor(place + names[1], out_of, rank_factor=factor)
            if dora:
                yield Tensor(f"{place}.lora_magnitude_vector", magnitude, fp32=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterPlan:
    """One adapter configuration on one model, at any rank."""

    __repr__ = brief

    model: ModelSpec
    adapted: tuple[Adapted, ...]
    saved: tuple[SavedModule, ...]
    use_dora: bool
    target_modules: tuple[str, ...] | str
    target_parameters: tuple[str, ...]
    """Value of PEFT's LoraConfig(target_parameters=…): expert parameters, where the MoE scheme names them."""
    modules_to_save: tuple[str, ...]
    scheme: str
    """MoE scheme that applies; "dense" for a model without fused experts."""
    expert_rank: int | str
    """`expert_rank` of the LoraConfig; "r" where no experts carry LoRA."""
    route: Route
    notes: tuple[str, ...] = ()

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the modules that carry LoRA, without duplicates."""
        return tuple(dict.fromkeys(a.layer.name for a in self.adapted))

    @property
    def unsloth_class(self) -> str:
        """Unsloth class that loads the model and attaches the adapter; FastVisionModel for a whole multimodal model."""
        return "FastVisionModel" if self.model.tower == "whole model" else self.route.unsloth_class

    @property
    def unsloth_flags(self) -> dict[str, bool]:
        """Flags to pass to Unsloth's get_peft_model; empty where Unsloth's defaults are right."""
        if self.route.kind != "model" or self.target_modules == "all-linear":
            return {}
        needed = self.model.tower == "whole model" or self.route.flags_given
        return dict(zip(FLAGS, self.route.flags, strict=True)) if needed else {}

    def parameters(self, r: int) -> int:
        """Return the number of trainable parameters, as PEFT's get_nb_trainable_parameters counts them."""
        others, experts, fixed = self._per_rank
        return others * r + experts * self.expert_rank_at(r) + fixed

    @functools.cached_property
    def _per_rank(self) -> tuple[int, int, int]:
        """Parameters per unit of rank of other layers, and of experts; parameters that do not depend on rank."""
        experts = sum(a.per_rank for a in self.adapted if a.is_expert)
        magnitudes = sum(a.magnitudes for a in self.adapted) if self.use_dora else 0
        fixed = magnitudes + sum(module.trained for module in self.saved)
        return sum(a.per_rank for a in self.adapted) - experts, experts, fixed

    def expert_rank_at(self, r: int) -> int:
        """Return the rank of each expert where all other layers have rank r."""
        rule, model = self.expert_rank, self.model
        if rule == "r":
            return r
        divisor = {"r/active": model.num_experts_per_tok, "r/all": model.num_experts}.get(rule)
        return rule if divisor is None else max(1, r // divisor)

    @property
    def trains_experts(self) -> bool:
        """True where experts carry LoRA."""
        return self._per_rank[1] > 0

    @property
    def alike_in_blocks(self) -> bool:
        """True for an adapter that MLX LM can train: the same linear layers in every block, and no experts."""
        return not (self.saved or self.trains_experts or any(each.count < each.layer.count for each in self.adapted))

    def patterns(self, lora: LoraConfig) -> dict[str, dict[str, float]]:
        """Return PEFT's rank_pattern and alpha_pattern, which give experts the same alpha / r as the other layers;
        empty where experts have rank r. PEFT uses the first match, and its rewrite adds a pattern for gate_up_proj
        last. Saved configurations sort patterns by name, where the bracket keeps RankViz's pattern first."""
        ranks, alphas = {}, {}
        for each in self.adapted if self.expert_rank != "r" else ():
            if each.is_expert:
                pairs, e = each.rank_factor // each.layer.num_experts, self.expert_rank_at(lora.r)
                name = each.layer.path.rpartition("{}.")[2]
                name = f"{name}s.[0-9]+" if each.split else f"({name})" if pairs > 1 else name
                alpha = lora.lora_alpha * pairs * (e / lora.r) ** (0.5 if lora.use_rslora else 1)
                ranks[name], alphas[name] = e * pairs, int(alpha) if alpha == int(alpha) else alpha
        return {"rank_pattern": ranks, "alpha_pattern": alphas} if ranks else {}

    @property
    def layers(self) -> tuple[LinearLayer, ...]:
        """Layers that carry LoRA."""
        return tuple(adapted.layer for adapted in self.adapted)

    def adapter_bytes(self, r: int, dtype_bytes: int = 4, *, saved_dtype: str = "bf16", frozen_dtype: str = "") -> int:
        """Return the bytes of adapter_model.safetensors, header included. dtype_bytes: 4 (fp32) or 2, of lora_A and
        lora_B. saved_dtype: Of modules saved in full. frozen_dtype: Of frozen ones; empty if equal."""
        saved = SAFETENSORS[saved_dtype] if self.saved else ""
        dtype, frozen = {4: "F32", 2: "BF16"}[dtype_bytes], SAFETENSORS.get(frozen_dtype, saved)
        return safetensors_bytes(self._sections(dtype, saved, frozen), r, self.expert_rank_at(r))

    def trained_adapter_bytes(
        self, r: int, framework: Framework, precision: str, *, cuda: bool = True, compute: Dtype = "bf16"
    ) -> int:
        """Return the bytes of adapter_model.safetensors in the dtypes that RankViz's training programs save."""
        width = 2 if adapter_dtype(framework, precision, cuda=cuda, compute=compute) == "bf16" else 4
        saved, frozen = (saved_dtype(framework, precision, compute=compute, trained=each) for each in (True, False))
        return self.adapter_bytes(r, width, saved_dtype=saved, frozen_dtype=frozen)

    @functools.lru_cache(maxsize=128)  # noqa: B019 - plans are cached themselves
    def _sections(self, dtype: str, saved: str, frozen: str) -> tuple[Section, ...]:
        """Return the file's sections, one per dtype, with PEFT's names."""
        entries: dict[str, list[TensorEntry]] = {}
        modules = [(x.module, x.blocks, x.tensors(dora=self.use_dora), dtype, x.is_expert) for x in self.adapted]
        modules += [(x.path, x.blocks, x.tensors, frozen if x.frozen_copy else saved, False) for x in self.saved]
        for path, blocks, tensors, usual, of_expert in modules:
            places = [PREFIX + path.replace("{}", str(block)) for block in blocks or ("",)]
            for name, shape, fp32, factor in tensors:
                kind, commas = "F32" if fp32 else usual, max(0, len(shape) + bool(factor) - 1)
                header = _ENTRY + len(kind) + sum(len(str(size)) for size in shape) + commas
                size = DTYPE_BYTES[kind] * math.prod(shape) * (factor or 1)
                own = entries.setdefault(kind, [])
                own.extend(TensorEntry(place + name, header, size, factor, of_expert) for place in places)
        return tuple(Section(entries[kind]) for kind in DTYPE_BYTES if kind in entries)

    @functools.cached_property
    def _labels(self) -> dict[str, str]:
        """Label of each module by path: the path's last part, after its parent's where modules share a last part."""

        def parent(layer: LinearLayer) -> str:
            parts = layer.path.split(".")[: -1 - layer.name.count(".")]
            return parts[-1] if parts and parts[-1] != "{}" else ""

        parents: dict[str, set[str]] = {}
        for layer in self.layers:
            parents.setdefault(layer.name, set()).add(parent(layer))
        return {
            layer.path: f"{parent(layer)}.{layer.name}".lstrip(".")
            if len(parents[layer.name]) > 1 or layer.kind == "experts" or layer.name.isdecimal()
            else layer.name
            for layer in self.layers
        }

    def by_block(self, r: int) -> dict[str, dict[tuple[int, int], int]]:
        """Return trainable parameters as {module: {place: parameters}}, modules in the model's order. A place is (0,
        block) in the text model, (1, block) in a second tower, and (2, 0) outside blocks. The sum is parameters(r)."""
        grid: dict[str, dict[tuple[int, int], int]] = {}
        names, experts = self._labels, self.expert_rank_at(r)
        each = [
            (names[a.layer.path], a.layer.part, a.blocks, a.per_rank * (experts if a.is_expert else r) + dora)
            for a in self.adapted
            for dora in [a.magnitudes if self.use_dora else 0]
        ]
        each += [(f"{m.name} (in full)", m.part, m.blocks, m.trained) for m in self.saved if m.trained]
        for name, part, blocks, parameters in each:
            cells = grid.setdefault(name, {})
            for place in [(int(part == "vision"), block) for block in blocks] or [(2, 0)]:
                cells[place] = cells.get(place, 0) + parameters // (len(blocks) or 1)
        return grid
