"""Serves an adapter: vLLM's slots and refusals, what fits beside base and cache, the merged model, llama.cpp's file.

Rules of vLLM by architecture are rows of assets/serving.json; formulas name the file of vLLM that they follow. Not
covered: several cards, fully sharded LoRA, shared expert factors, LoRA or a cache in 8 bit, speculative decoding.
"""

import math
import shlex
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TypedDict

from rankviz import units
from rankviz.core.bounds import one_of, whole
from rankviz.core.cost.estimate import usable_memory
from rankviz.core.cost.notes import Published
from rankviz.core.cost.setup import MAX_LENGTH, Gpu
from rankviz.core.cost.shapes import cache_bytes, why_too_long
from rankviz.core.from_json import shape
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.targets import LINEAR_KINDS, listed
from rankviz.core.lora.vllm import MERGE, Facts, Refused, loading, ranks_of, slot_numbers
from rankviz.core.model.spec import WHOLE, ModelSpec
from rankviz.core.quantity import Assumptions, Range

BASE_BITS = ("16", "8", "4")
"""Bits of a weight of the served base. Slots and cache stay in 16 bit."""
MAX_SEQUENCES = 4096
WIDTH = 2
"""Bytes of a number in slots, loaded adapters and cache: 16 bit, the dtype of the base's activations ("auto")."""
STORED_WIDTHS = {
    **{"MXFP4": (17 / 32, 17 / 32), "NVFP4": (9 / 16, 9 / 16)},
    **dict.fromkeys(("FP8", "W8A8"), (1, 1)),
    **dict.fromkeys(("AWQ", "W4A16", "NF4"), (0.5, 0.625)),
}
"""Least and most bytes of a packed weight, with its scales, by the format of a published checkpoint. MXFP4 has a scale
of 8 bits for 32 numbers, NVFP4 for 16 (OCP Microscaling Formats 1.0). Of an unlisted format: 4 to 16 bit."""
PADDED = 256
"""A dimension of MXFP4 experts is padded to a multiple of at most this (vLLM 0.33.0, oracle/mxfp4.py)."""
OTHERS = (
    "vLLM also refuses a bias other than none, and a start from PiSSA, OLoRA, CorDA or LoftQ: convert that to plain "
    "LoRA first, at twice the rank. Of a rank_pattern, the largest rank counts."
)
PARTS = ("budget", "base", "cache", "working", "free")
RangeJSON = shape(Range)
OnCard = TypedDict("OnCard", {"gpu": str, "adapters": RangeJSON} | {f"{n}_bytes": RangeJSON for n in PARTS})
SlowDown = TypedDict(
    "SlowDown",
    dict.fromkeys(("id", "setting", "measured", "source", "checked"), str)
    | dict.fromkeys(("r", "slot_rank"), int | None)
    | dict.fromkeys(("low", "high"), float),
)
OnCard.__doc__ = """Bytes of the card that the server takes (`budget_bytes`), its parts, what they leave free for slots,
and the number of slots that fit."""
SlowDown.__doc__ = """A published time with an unmerged adapter over the time without, from `low` to `high`. Ranks that
were not published are null."""


class ServingJSON(TypedDict):
    """One adapter on a server. `highest_rank`: of any of its modules. `max_lora_rank`: vLLM's setting, null where
    the adapter can only be served merged. `wasted_share`: of that rank, and so of the compute. `slot_bytes`: also
    of layers that the adapter leaves out; a range where the architecture, or its other towers, were not read.
    `context`, `sequences`: tokens of a sequence and sequences at once, which set the card's `cache_bytes`.
    `adapters`: slots that fit. `refused`: what vLLM does not load; `gguf_refused`: what stops llama.cpp's
    converter. `gguf_alpha`: lora_alpha to write into adapter_config.json for it. `slow_down`: published times with
    an adapter over times without. `notes`: what this answer leaves out. `command`: empty on a Mac."""

    model_id: str
    r: int
    lora_alpha: float
    target_names: list[str]
    vllm: str
    highest_rank: int
    max_lora_rank: int | None
    wasted_share: float | None
    loaded_bytes: int
    slot_bytes: RangeJSON | None
    refused: list[Refused]
    context: RangeJSON
    sequences: RangeJSON
    card: OnCard | None
    merged_bytes: int
    gguf_bytes: dict[str, int]
    gguf_alpha: float
    gguf_refused: list[Refused]
    slow_down: list[SlowDown]
    notes: list[str]
    command: str


def serve(
    plan: AdapterPlan,
    lora: LoraConfig,
    facts: Facts,
    gpu: Gpu | None,
    assume: Assumptions,
    *,
    base_bits: str = "16",
    context: int | None = None,
    sequences: int | None = None,
    model_id: str = "",
    stored: Published | None = None,
    gpus: int = 1,
) -> ServingJSON:
    """Return what one adapter costs on a server.

    Args:
        plan: The adapter on its model.
        lora: Its settings, with rank and alpha.
        facts: Content of assets/serving.json.
        gpu: The server's card; None for an answer without what fits.
        base_bits: One of BASE_BITS.
        context: Tokens of one sequence, prompt and answer together; None for an assumed range.
        sequences: Sequences that are answered at once; None for an assumed range.
        model_id: Name of the weights to load; empty for the model's own.
        stored: The format of weights that are published quantized; vLLM serves them as they are.
        gpus: Cards of the training, of which one serves.
    """
    one_of(base_bits, "Bits of the served base", BASE_BITS)
    load = []
    for name, value, high in (("context", context, MAX_LENGTH), ("sequences", sequences, MAX_SEQUENCES)):
        if value is not None:
            whole(value, f"The server's {name}", 1, high)
        load.append(assume.range(f"serving-{name}") if value is None else Range(value, value, value))
    model, r = plan.model, lora.r
    experts = plan.expert_rank_at(r)
    model_id = model_id or model.id.removesuffix(WHOLE)
    slot_rank, refused = loading(plan, r, facts)
    packed = stored if slot_rank else None  # merged in 16 bit
    tower = any(each.layer.part == "vision" for each in plan.adapted)
    slot = slot_rank and slot_numbers(model, facts, towers=tower).times(WIDTH * slot_rank)
    copied = {module.path for module in plan.saved if not module.frozen_copy}
    untied = model.tie_word_embeddings and copied & {model.input_embedding, model.output_embedding}
    sizes, gguf_alpha, gguf_refused = gguf(plan, lora)
    mac = gpu is not None and gpu.is_mac
    card = None if mac or gpu is None else on_card(model, gpu, base_bits, packed, load, slot, slot_rank or 0, assume)
    line = command(model_id, plan, slot_rank, refused, base_bits, stored, context, sequences)
    short = card and card["free_bytes"]["high"] < (slot.low if slot else 0)
    too_large = card and card["budget_bytes"]["high"] < card["base_bytes"]["low"]
    left = "leave no room for a slot" if slot else "do not fit"
    notes = {
        f"One card is counted, of {gpus}.": gpus > 1,
        "vLLM is counted on cards, not on a Mac. Choose a card, or serve it there with llama.cpp.": mac,
        f"{model_id} is published in {packed and packed.name}, and vLLM serves it so, whatever base_bits says.": packed,
        why_too_long(model, context or 0): True,
        f"The base alone does not fit {gpu and gpu.name}: choose a larger card, or a smaller base_bits.": too_large,
        f"Base, cache and step {left}: choose a shorter context, fewer sequences, or a larger card.": (
            short and not too_large
        ),
        OTHERS: slot_rank,
        "Other towers' layers load only where vLLM has LoRA on them. A slot is counted without and with them.": (
            slot_rank and tower
        ),
    }
    return ServingJSON(
        model_id=model_id,
        r=r,
        lora_alpha=lora.lora_alpha,
        target_names=list(plan.target_names),
        vllm=facts["vllm"]["version"],
        highest_rank=max(rank for _, rank in ranks_of(plan, r)),
        max_lora_rank=slot_rank,
        wasted_share=slot_rank and 1 - r / slot_rank,
        loaded_bytes=WIDTH * sum(each.per_rank * (experts if each.is_expert else r) for each in plan.adapted),
        slot_bytes=slot and slot.whole_json(),
        refused=refused,
        context=load[0].whole_json(),
        sequences=load[1].whole_json(),
        card=card,
        merged_bytes=WIDTH * (model.total_parameters + (model.vocab_size * model.hidden_size if untied else 0)),
        gguf_bytes=sizes,
        gguf_alpha=gguf_alpha,
        gguf_refused=gguf_refused,
        slow_down=facts["slow_down"],
        notes=[sentence for sentence, applies in notes.items() if sentence and applies],
        command="" if mac else line,
    )


def command(
    model_id: str,
    plan: AdapterPlan,
    slot_rank: int | None,
    refused: list[Refused],
    base_bits: str = "16",
    stored: Published | None = None,
    context: int | None = None,
    sequences: int | None = None,
) -> str:
    """Return the shell command that serves the adapter with vLLM; the merged model where vLLM refuses the adapter.
    Without `context`, vLLM takes the longest that fits: its default is the model's, for which memory may not do."""
    quantized = {"16": "", "8": " --quantization fp8", "4": " --quantization bitsandbytes"}[base_bits]
    load = f" --max-model-len {context or 'auto'}" + (f" --max-num-seqs {sequences}" if sequences else "")
    if refused or slot_rank is None:
        return f"vllm serve ./merged{quantized}{load}"
    quantized = "" if stored else quantized  # served as it is published
    tower = " --enable-tower-connector-lora" * any(each.layer.part == "vision" for each in plan.adapted)
    return (
        f"vllm serve {shlex.quote(model_id)}{quantized}{load} --enable-lora --max-loras 1 --max-lora-rank {slot_rank}"
        f"{tower} --lora-modules adapter=./adapter"
    )


def on_card(
    model: ModelSpec,
    gpu: Gpu,
    bits: str,
    stored: Published | None,
    load: list[Range],
    slot: Range | None,
    slot_rank: int,
    assume: Assumptions,
) -> OnCard:
    """Return the parts of the card's memory, and the number of slots that fit. vLLM takes a share of the card
    (gpu_memory_utilization), loads the base, measures its largest step, and has the rest for slots and cache.

    Of a quantized base, linear layers and experts of the language model are packed, in 4 bit from GPTQ's layout to
    bitsandbytes' NF4. The low end of a text tower is without the checkpoint's other towers (--language-model-only).

    The step, which no measured server has confirmed: 4 hidden sizes and 3 inner widths a token of a prefill batch, the
    rank's fp32 buffers of three slices, logits and probabilities in fp32, and captured graphs. load: Tokens of a
    sequence, and sequences at once.
    """
    down = (layer for layer in model.layers if layer.part == "mlp" and layer.out_features == model.hidden_size)
    active = {"experts": model.num_experts_per_tok or 1}
    inner = max((each.in_features * active.get(each.kind, 1) for each in down), default=model.intermediate_size)
    a_token = WIDTH * (4 * model.hidden_size + 3 * inner) + 3 * 4 * slot_rank
    working = assume.range("vllm-batched-tokens").times(a_token).plus(assume.range("vllm-graph-bytes"))
    working = working.plus(assume.range("vllm-logits-rows").times(2 * 4 * model.vocab_size))
    budget = usable_memory(gpu, assume).multiplied(assume.range("vllm-memory-share"))
    kinds = ("experts",) if stored and stored.name == "MXFP4" else (*LINEAR_KINDS, "experts")
    text = [layer for layer in model.layers if layer.part != "vision" and layer.kind in kinds]
    weights = sum(layer.parameters for layer in text)
    int4, nf4 = (assume.value(f"weight-bytes-{way}") for way in ("gptq-int4", "nf4"))
    narrow, wide = {"16": (WIDTH, WIDTH), "8": (1, 1), "4": (int4, nf4)}[bits]
    if stored:
        narrow, wide = STORED_WIDTHS.get(stored.name, (int4, WIDTH))
    least, most = (WIDTH * (each.total_parameters - weights) for each in (model, model.whole or model))
    base = Range(least + narrow * weights, most + narrow * weights, most + wide * weights)
    if kinds == ("experts",):
        pads = (math.prod(-(-n // PADDED) * PADDED / n for n in (e.in_features, e.out_features)) for e in text)
        base = Range(base.low, base.expected, most + wide * weights * max(pads, default=1))
    cache = cache_bytes(model, *load, assume)
    taken = base.plus(cache).plus(working)
    free = Range(budget.low - taken.high, budget.expected - taken.expected, budget.high - taken.low)
    adapters = Range(0, 0, 0)
    if slot:
        ends = ((free.low, slot.high), (free.expected, slot.expected), (free.high, slot.low))
        adapters = Range(*(max(0, math.floor(left / size)) for left, size in ends))
    parts = zip(PARTS, (budget, base, cache, working, free), strict=True)
    return {"gpu": gpu.name, "adapters": adapters.whole_json()} | {f"{n}_bytes": each.whole_json() for n, each in parts}


def gguf(plan: AdapterPlan, lora: LoraConfig) -> tuple[dict[str, int], float, list[Refused]]:
    """Return the bytes of llama.cpp's adapter file by outtype, the lora_alpha to write first, and what stops its
    converter (convert_lora_to_gguf.py and gguf-py/gguf/quants.py of ggml-org/llama.cpp@0b03adaa).

    Bytes are the tensors', without the header. q8_0 stores 32 numbers in 34 bytes; rows that 32 does not divide stay in
    16 bit, as B's do where 32 does not divide r. The program multiplies by alpha / rank, so rsLoRA's alpha / √r
    needs alpha · √r in the file.
    """
    sizes = dict.fromkeys(("f32", "f16", "bf16", "q8_0"), 0)
    for each, rank in ranks_of(plan, lora.r):
        pairs = each.count * each.layer.num_experts
        for row, rows in ((each.layer.in_features, rank), (rank, each.layer.out_features)):
            for name, width in (("f32", 4), ("f16", 2), ("bf16", 2), ("q8_0", 2 if row % 32 else 34 / 32)):
                sizes[name] += round(pairs * row * rows * width)
    stops: list[tuple[str, str]] = []
    if plan.use_dora:
        stops.append(("DoRA", "a magnitude vector is neither lora_A nor lora_B"))
    full = {module.name for module in plan.saved if not module.frozen_copy and "norm" not in module.name}
    if full:
        stops.append(
            ("modules_to_save", f"the file has LoRA pairs only, and no whole weights of {listed(sorted(full))}")
        )
    if any(each.is_expert for each in plan.adapted):
        stops.append(("experts", "LoRA on fused experts has no name in the file"))
    if any(each.layer.part == "vision" for each in plan.adapted):
        stops.append(("vision layers", "the file describes the language model alone"))
    if plan.model.tie_word_embeddings and any(each.layer.kind == "lm_head" for each in plan.adapted):
        stops.append(("lm_head", "a head tied to the embedding is no tensor of its own there"))
    alpha = lora.lora_alpha * (math.sqrt(lora.r) if lora.use_rslora else 1)
    return sizes, alpha, [Refused(feature=feature, why=why, instead=MERGE) for feature, why in stops]


def rows(answer: ServingJSON) -> list[tuple[str, str, str]]:
    """Return the answer as rows of a table: name, figure, and a remark."""
    refused, rank, slot, card = (answer[name] for name in ("refused", "max_lora_rank", "slot_bytes", "card"))
    known = slot is None or slot["low"] == slot["high"]

    def memory(size: float) -> str:
        return units.memory_size(size) if size >= units.MIB else f"{size / 1024:,.0f} KiB"

    def span(ends: Mapping[str, float], text: Callable[[float], str] | None = None) -> str:
        return units.span(SimpleNamespace(**ends), text) if text else units.memory_span(SimpleNamespace(**ends))

    def reasons(each: list[Refused]) -> str:
        return " ".join(dict.fromkeys([*(f"{x['feature']}: {x['why']}." for x in each), *(x["instead"] for x in each)]))

    unread = "" if known else "Its rules for this architecture, or for its other towers, were not read."
    loads = "refuses this adapter" if refused else "loads this adapter" if known else "not known"
    shown = [(f"vLLM {answer['vllm']}", loads, reasons(refused) or unread)]
    if rank:
        waste = f"{100 * answer['wasted_share']:.0f} % of it, and of its compute, is unused at r = {answer['r']}"
        ends = {"low": slot["high"], "high": slot["low"]}
        filled = {end: min(100.0, 100 * answer["loaded_bytes"] / size) for end, size in ends.items()}
        fills = f"this adapter fills {span(filled, '{:.0f}'.format)} % of it"
        exact = (
            "for each of max_loras, whatever is loaded, on all linear layers of the language model, and on embedding, "
            "head and routers where vLLM wraps them"
        )
        loaded = "16 bit, at its own rank, in the server's host memory"
        shown += [
            ("One loaded adapter", memory(answer["loaded_bytes"]), loaded),
            ("max_lora_rank", str(rank), waste if answer["wasted_share"] else "r uses all of it"),
            ("One slot", span(slot), f"{exact if known else 'a range: see the notes'}; {fills}"),
        ]
    else:
        shown.append(("One loaded adapter", "–", "vLLM serves the merged model instead"))
    if card:
        at_once, each = (span(answer[name], "{:,.0f}".format) for name in ("sequences", "context"))
        names = (
            ("base", "base"),
            ("cache", f"cache ({at_once} sequence{'s' * (at_once != '1')} of {each} tokens)"),
            ("working", "one step"),
        )
        parts = ", ".join(f"{label} {span(card[f'{name}_bytes'])}" for name, label in names)
        remark = f"of {span(card['budget_bytes'])} that vLLM takes of {card['gpu']}: {parts}"
        shown.append(("Slots that fit", span(card["adapters"], "{:,}".format) if slot else "–", remark))
    merged = "no slot and no slow-down: the way for one adapter; each further one needs a whole model"
    keeps = "any rank; applied with the scale alpha / r"
    if answer["gguf_alpha"] != answer["lora_alpha"]:
        keeps = f"lora_alpha {answer['gguf_alpha']:.6g} must be written first: rsLoRA's scale is not stored. {keeps}"
    by_type = ", ".join(f"{name} {memory(size)}" for name, size in answer["gguf_bytes"].items() if name != "bf16")
    without = reasons(answer["gguf_refused"])
    shown.append(("Merged model", memory(answer["merged_bytes"]), merged))
    return [*shown, ("llama.cpp", "no GGUF adapter" if without else by_type, without or keeps)]


def points(answer: ServingJSON) -> list[tuple[str, str, str, str, str]]:
    """Return the published slow-downs as rows of a table: setting, figures, rank, times the time without, source."""
    shown = []
    for each in answer["slow_down"]:
        slot = f"slot of {each['slot_rank']}" if each["slot_rank"] else units.NOT_KNOWN
        times = units.span(SimpleNamespace(**each), "× {:.2f}".format)
        shown.append((each["setting"], each["measured"], str(each["r"] or slot), times, each["source"]))
    return shown
