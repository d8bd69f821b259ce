"""Runs `python -m rankviz.worker probe_depth HOME PROBE_ID DEPTH FOLDER`: one depth of a probe in its own process.

A fresh process, so that neither peaks nor what malloc keeps leak from one depth into the next. It says what happens
as JSON lines on standard output, {"stage"}, {"environment"}, and at the end {"measured"}, {"did_not_fit"} or
{"error"}; the process that started it (main.py) watches its memory and writes the journal.

On the CPU Unsloth's path is FastLanguageModel of its CPU backend and TRL's SFTTrainer, as in fine-tuning; "peft" is
PEFT and transformers' Trainer. The path on a CUDA card ("trl", 4-bit and 8-bit bases, peaks of torch's allocator, out
of memory there) is written from the installed sources and has never been run.
"""

import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankviz.core.cost.device import Device
from rankviz.core.cost.question import plan_on
from rankviz.core.model.config_check import parse_config
from rankviz.core.probe import MOST_TIMED_STEPS, TIMED_SECONDS, ProbeRequest
from rankviz.core.runs.request import RunRequest
from rankviz.logs import print_error
from rankviz.store import RunStore
from rankviz.worker.device import causes
from rankviz.worker.journal import explain, set_environment

LEARNING_RATE = 1e-5


def main(argv: Sequence[str]) -> int:
    home, probe_id, depth, folder = Path(argv[0]), argv[1], int(argv[2]), Path(argv[3])
    set_environment()
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Libraries print on standard output; the messages have it to themselves.
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    store = RunStore(home)
    teller = Teller(lambda message: print(json.dumps(message), file=messages, flush=True))
    try:
        config = parse_config((store.run_dir(probe_id) / "config.json").read_bytes())
        teller.tell("measured", measure(store.probe(probe_id).request, config, depth, folder, teller))
    except Exception as error:
        shortage = _shortage(error)
        if shortage is None:
            print_error(error)
            teller.tell("error", explain(error))
            return 1
        limit_bytes, short_bytes, why = shortage
        teller.tell(
            "did_not_fit",
            {"limit_bytes": limit_bytes, "short_bytes": short_bytes, "stage": teller.now, "why": why},
        )
    return 0


class Teller:
    """Says things to the process that started this one, and remembers the last stage."""

    def __init__(self, say: Callable[[dict[str, Any]], None]):
        self._say = say
        self.now = "starting"

    def tell(self, what: str, value: Any) -> None:
        self._say({what: value})

    def stage(self, words: str) -> None:
        self.now = words
        self.tell("stage", words)


def measure(request: ProbeRequest, config: dict[str, Any], depth: int, folder: Path, teller: Teller) -> dict[str, Any]:
    """The fields of a DepthMeasured that this process knows."""
    teller.stage("importing")
    if request.training.framework == "unsloth":
        import unsloth  # noqa: F401  first, since it patches what is imported next
    import torch

    from rankviz.worker import device
    from rankviz.worker.environment import machine
    from rankviz.worker.finetune.training import build_trainer
    from rankviz.worker.memory import Memory
    from rankviz.worker.probe import random_base
    from rankviz.worker.probe.moments import Moments
    from rankviz.worker.settings import settle

    run = _as_run(request, folder)
    settings = settle(request.training, cuda=device.has_cuda(), model_type=config.get("model_type", ""))
    if settings.cuda and request.memory_limit_bytes:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, request.memory_limit_bytes / total))
    teller.tell(
        "environment",
        {
            **machine(settings.cuda),
            "framework": request.training.framework,
            "precision": settings.training.precision,
            "optim": settings.optim,
            "gradient_checkpointing": settings.effective_checkpointing,
            "loss_path": request.training.loss_path,
            "target_modules": request.lora.target_modules,
            "weights": "random",
        },
    )
    teller.stage("writing random weights")
    random_base.write_random_base(config, depth, folder)

    memory = Memory(cuda=settings.cuda)
    memory.settle()
    baseline_bytes = memory.now()
    memory.reset()
    teller.stage("loading the base")
    model, tokenizer = _load(request, folder, run, settings)
    load_peak_bytes = memory.peak() - baseline_bytes
    total_parameters = model.num_parameters()
    teller.stage("attaching the adapter")
    adapter = _attach(request, run, model, config, depth, settings)
    trainable = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
    moments = Moments(memory, timed_steps=request.timed_steps, timed_seconds=TIMED_SECONDS)
    teller.stage("training")
    memory.settle()
    static_bytes = memory.now() - baseline_bytes
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:
        trainer = build_trainer(
            adapter,
            tokenizer,
            _rows(request, vocabulary=model.config.get_text_config().vocab_size),
            run,
            settings,
            scratch,
            [moments],
            plain=request.training.framework == "peft",
        )
        if request.training.framework != "unsloth":
            from rankviz.worker.probe import hf_session

            hf_session.raise_trained(trainer.model, settings)
        moments.watch(trainer)
        trainer.train()
    first, *timed = moments.step_seconds
    return {
        "baseline_bytes": baseline_bytes,
        "load_peak_bytes": load_peak_bytes,
        "static_bytes": static_bytes,
        "moments": {name: peak - baseline_bytes for name, peak in moments.peaks.items()},
        "peak_kind": "allocated" if settings.cuda else "resident above baseline",
        "timed_steps": timed,
        "first_step_seconds": first,
        "tokens_per_step": request.training.tokens_per_step,
        "trainable_parameters": trainable,
        "total_parameters": total_parameters,
        "peak_reserved_bytes": moments.peak_reserved_bytes,
        "busy_elsewhere": moments.busy_elsewhere,
        "attn_implementation": getattr(model.config, "_attn_implementation", None) or "",
    }


def _as_run(request: ProbeRequest, folder: Path) -> RunRequest:
    """The run that would train so, as the fine-tuning code takes it."""
    return RunRequest(
        run_id=request.probe_id,
        sweep_id=request.probe_id,
        created_at=request.created_at,
        base=str(folder),
        data="random tokens",
        lora=request.lora,
        training=replace(request.training, max_steps=_most_steps(request)),
        learning_rate=LEARNING_RATE,
        seed=request.seed,
    )


def _most_steps(request: ProbeRequest) -> int:
    """Training stops by itself before (moments.py)."""
    return 1 + max(request.timed_steps, MOST_TIMED_STEPS)


def _load(request: ProbeRequest, folder: Path, run: RunRequest, settings: Any) -> tuple[Any, Any]:
    if request.training.framework == "unsloth":
        from rankviz.worker.finetune.base import Base
        from rankviz.worker.finetune.load import load_base

        base = Base(name=str(folder), is_local=True)
        return load_base(base, settings, lora=request.lora)
    from rankviz.worker.probe import hf_session

    return hf_session.load_base(str(folder), settings)


def _attach(
    request: ProbeRequest, run: RunRequest, model: Any, config: dict[str, Any], depth: int, settings: Any
) -> Any:
    """The model with its adapter."""
    from rankviz.worker.introspect.layers import cut_config, layers_of

    plan = plan_on(layers_of(cut_config(config, depth)), request.lora, request.training, Device(cuda=settings.cuda))
    if request.training.framework == "unsloth":
        from rankviz.worker.finetune.load import attach

        return attach(model, run, plan, settings)
    from rankviz.worker.probe import hf_session

    return hf_session.attach(model, request.lora, plan, settings)


def _rows(request: ProbeRequest, *, vocabulary: int) -> list[Any]:
    """Rows of random tokens, each of them a target."""
    from rankviz.worker.finetune.data import Tokens

    chance = random.Random(request.seed)
    count = _most_steps(request) * request.training.rows_per_step
    rows = [[chance.randrange(3, vocabulary) for _ in range(request.training.max_length)] for _ in range(count)]
    return [Tokens(row, list(row)) for row in rows]


def _shortage(error: Exception) -> tuple[int, int, str] | None:
    """(bytes there are, bytes missing at least, who says so) if memory ran out, here or in what caused this; else None.

    torch tells a GPU's shortage by a class, a CPU's by words alone; how much was asked stands only in the words.
    """
    import psutil

    torch = sys.modules.get("torch")
    for each in causes(error):
        words = str(each)
        if torch is not None and isinstance(each, torch.OutOfMemoryError):
            total = torch.cuda.get_device_properties(0).total_memory
            limit = round(torch.cuda.get_per_process_memory_fraction() * total)
            free = min(torch.cuda.mem_get_info()[0], limit - torch.cuda.memory_reserved())
            kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
            return limit, max(0, _asked_bytes(words) - free - kept), "GPU"
        if isinstance(each, MemoryError) or (isinstance(each, RuntimeError) and "can't allocate memory" in words):
            free = psutil.virtual_memory().available
            return psutil.Process().memory_info().rss + free, max(0, _asked_bytes(words) - free), "system"
    return None


def _asked_bytes(words: str) -> int:
    """ "Tried to allocate 2.00 GiB" (a GPU) or "you tried to allocate 2147483648 bytes" (a CPU)."""
    match = re.search(r"tried to allocate ([\d.]+) (bytes|[KMGT]iB)", words, re.IGNORECASE)
    if not match:
        return 0
    power = ("bytes", "kib", "mib", "gib", "tib").index(match[2].lower())
    return round(float(match[1]) * 1024**power)
