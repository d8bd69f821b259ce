"""Measures memory and step time of a model with random weights: `python -m rankviz.worker probe HOME PROBE_ID@ATTEMPT`.
It loads no torch: for each depth it starts `probe_depth` as a process of its own, which writes the journal meanwhile,
watches its memory, and ends it at a limit of time or memory. Running out of memory is a result; so is running out of
time after two measured depths. A new process keeps peaks and leftovers of malloc of one depth out of the next. The
model is a few blocks with random weights in bf16, so that nothing is downloaded. "peft" is PEFT and transformers'
Trainer. The path on a CUDA card is written from the installed sources and has never been run."""

import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from rankviz import machine, units
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import Device
from rankviz.core.model.config_check import parse_config, without_code
from rankviz.core.probe import FREE_MEMORY_SHARE, MOST_TIMED_STEPS, TIMED_SECONDS, ProbeRequest
from rankviz.core.runs.events import Attempt, DepthDidNotFit, DepthMeasured, DepthSkipped, ProbeCompleted, RunStarted
from rankviz.core.runs.request import RunRequest
from rankviz.errors import UserError, causes
from rankviz.store import RunStore
from rankviz.trained.plan import new_header
from rankviz.worker.base import Base
from rankviz.worker.device import Memory, environment, has_cuda, quantization, set_environment, settle
from rankviz.worker.journal import Journal, admit_probe, redirect_output

COMMAND = (sys.executable, "-m", "rankviz.worker", "probe_depth")
POLL_SECONDS = 0.02  # seconds between two checks of memory; what is allocated in between may exceed the limit


def main(argv: Sequence[str]) -> int:
    home, (probe_id, attempt) = Path(argv[0]).resolve(), Attempt.parse(argv[1])
    store = RunStore(home)
    if not store.begin(probe_id, attempt):
        return 0
    os.chdir(home)  # Unsloth writes its compiled cache into the working directory
    journal = Journal(store, probe_id, attempt)
    redirect_output(journal.folder / "worker.log")
    ended = {probe_id, *(probe.run_id for probe in store.probes() if probe.state.ended)}
    for left in store.runs_dir.glob("*/base-*"):  # of a worker that was killed
        if left.parent.name in ended:
            shutil.rmtree(left, ignore_errors=True)
    try:
        admit_probe(store, request := journal.request)
        limit_bytes = memory_limit(request, cuda=machine.here()["device"] == "cuda")
        deadline = time.monotonic() + request.time_limit_seconds
        for depth in request.depths:  # in rising order, until one does not fit or time is over
            try:
                code = _watch(journal, argv[1], depth, limit_bytes, deadline)
            except TimeoutError as error:
                if error.errno is not None:  # a disk's, not the probe's
                    raise
                if store.record(probe_id).extrapolated is None:
                    raise UserError(str(error)) from None
                journal.append(DepthSkipped(time=time.time(), depth=depth, reason=str(error)))
                break
            if code:
                return code
            if store.record(probe_id).did_not_fit:
                break
        journal.append(ProbeCompleted(time=time.time()))
        return 0
    except Exception as error:
        return journal.fail(error)


def memory_limit(request: ProbeRequest, *, cuda: bool) -> int:
    """Return the bytes of main memory that one process may use. With a GPU, the requested limit is for the card, and
    the process keeps to it by itself; torch for CUDA alone takes some GiB of main memory."""
    free_bytes = min(psutil.virtual_memory().available, machine.memory_bytes())
    return (None if cuda else request.memory_limit_bytes) or round(FREE_MEMORY_SHARE * free_bytes)


def _watch(journal: Journal, attempt: str, depth: int, limit_bytes: int, deadline: float) -> int:
    """Let a process measure one depth; return its exit code, 0 if memory ran out; TimeoutError at the deadline."""
    request, store = journal.request, journal.store
    folder, seen_bytes, unfit = journal.folder / f"base-{depth}", 0, {}
    child = subprocess.Popen([*COMMAND, str(store.home), attempt, str(depth), str(folder)], stdin=subprocess.DEVNULL)
    try:
        while (code := child.poll()) is None and not unfit:
            with suppress(psutil.Error):
                seen_bytes = max(seen_bytes, psutil.Process(child.pid).memory_info().rss)
            if seen_bytes > limit_bytes:
                unfit = {"limit_bytes": limit_bytes, "short_bytes": seen_bytes - limit_bytes, "why": "memory limit"}
            elif time.monotonic() > deadline:
                raise TimeoutError(
                    f"The time limit of {units.duration(request.time_limit_seconds)} was reached with {depth} blocks "
                    f"({_stage(journal)}): give more time, or a smaller batch or length."
                )
            else:
                time.sleep(POLL_SECONDS)
    finally:
        child.kill()  # first of all, so that one process writes the journal
        child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    if code == -9 and not unfit:  # by the kernel, which ends the largest process when memory runs out
        unfit = {"limit_bytes": seen_bytes, "short_bytes": 0, "why": "system"}
    if unfit:
        journal.append(DepthDidNotFit(time=time.time(), depth=depth, stage=_stage(journal), **unfit))
        return 0
    if code and not store.record(request.probe_id).state.ended:
        raise UserError(f"The process that measured {depth} blocks ended with code {code} without a result.")
    return code


def _stage(journal: Journal) -> str:
    return journal.store.record(journal.run_id).stage.partition(": ")[2] or "starting"


BF16_BYTES = 2
CHUNK_NUMBERS = 2**20


def depth(argv: Sequence[str]) -> int:
    """Measure one depth: HOME PROBE_ID@ATTEMPT DEPTH FOLDER."""
    started, blocks, folder = time.monotonic(), int(argv[2]), Path(argv[3])
    set_environment()
    os.environ["HF_HUB_OFFLINE"] = "1"
    store, attempt = RunStore(Path(argv[0])), Attempt.parse(argv[1])
    journal = Journal(store, *attempt)
    try:
        config = parse_config((journal.folder / "config.json").read_bytes())
        values = measure(journal, config, blocks, folder, lambda name: journal.begin(f"{blocks} blocks: {name}"))
        took_seconds = time.monotonic() - started
        journal.append(DepthMeasured(time=time.time(), depth=blocks, took_seconds=took_seconds, **values))
    except Exception as error:
        if (shortage := _shortage(error)) is None:
            return journal.fail(error)
        journal.append(DepthDidNotFit(time=time.time(), depth=blocks, stage=_stage(journal), **shortage))
    return 0


def measure(
    journal: Journal, config: dict[str, Any], depth: int, folder: Path, begin: Callable[[str], None]
) -> dict[str, Any]:
    """Return the fields of a DepthMeasured. begin: takes the name of each stage."""
    begin("importing")
    request, training = journal.request, journal.request.training
    unsloth = training.framework == "unsloth"
    if unsloth:  # first, since it patches what is imported next
        from rankviz.worker.finetune import session
    import torch

    from rankviz.worker.finetune.data import Tokens
    from rankviz.worker.finetune.training import build_trainer, with_peft_adapter
    from rankviz.worker.introspect.layers import cut_config, layers_of

    settings = settle(training, cuda=has_cuda(), model_type=config.get("model_type", ""))
    if settings.cuda and request.memory_limit_bytes:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, request.memory_limit_bytes / total))
    if not journal.store.record(journal.run_id).environment:
        facts = {
            **environment(settings.cuda),
            **settings.facts,
            "framework": training.framework,
            "loss_path": training.loss_path,
            "target_modules": request.lora.target_modules,
            "weights": "random",
        }
        journal.append(RunStarted(time=time.time(), environment=facts))
    begin("writing random weights")
    write_random_base(config, depth, folder)
    most_steps = 1 + max(request.timed_steps, MOST_TIMED_STEPS)
    run = RunRequest(
        run_id=request.probe_id,
        sweep_id=request.probe_id,
        created_at=request.created_at,
        base=str(folder),
        data="random tokens",
        lora=request.lora,
        training=replace(training, max_steps=most_steps),
        learning_rate=1e-5,
        seed=request.seed,
    )
    memory = Memory(cuda=settings.cuda)
    memory.settle()
    baseline_bytes = memory.now()
    memory.reset()
    begin("loading the base")
    if unsloth:
        model, tokenizer, _ = session.load_base(Base(name=str(folder), is_local=True), settings, lora=request.lora)
    else:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        compute = settings.dtype_name or settings.compute_dtype
        bits = quantization(settings.training.precision, compute)
        options = {"dtype": getattr(torch, compute), "quantization_config": bits, **settings.placement}
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    load_peak_bytes = memory.peak() - baseline_bytes
    total_parameters = model.num_parameters()
    begin("attaching the adapter")
    plan = plan_on(layers_of(cut_config(config, depth)), request.lora, training, Device(cuda=settings.cuda))
    if unsloth:
        adapter = session.attach(model, run, plan, settings)
    else:
        if training.framework == "peft" and training.quantized:  # as plain scripts do; TRL's trainer doesn't
            from peft import prepare_model_for_kbit_training

            checkpoints = settings.gradient_checkpointing is True
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpoints)
        adapter = with_peft_adapter(model, request.lora, plan)
    trainable = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
    begin("training")
    memory.settle()
    static_bytes = memory.now() - baseline_bytes
    chance, vocabulary = random.Random(request.seed), model.config.get_text_config().vocab_size
    rows = []
    for _ in range(most_steps * training.rows_per_step):
        row = [chance.randrange(3, vocabulary) for _ in range(training.max_length)]
        rows.append(Tokens(row, row))
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:
        plain = training.framework == "peft"
        trainer = build_trainer(adapter, tokenizer, rows, run, settings, scratch, [], plain=plain)
        if not unsloth and compute != "bfloat16":
            # TRL makes the adapter of a quantized base bf16, and fp16's gradient scaler refuses all but fp32.
            for parameter in trainer.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
        timed = timed_steps(trainer, memory, request.timed_steps, baseline_bytes)
    return {
        "baseline_bytes": baseline_bytes,
        "load_peak_bytes": load_peak_bytes,
        "static_bytes": static_bytes,
        "peak_kind": "allocated" if settings.cuda else "resident above baseline",
        "tokens_per_step": training.tokens_per_step,
        "trainable_parameters": trainable,
        "total_parameters": total_parameters,
        "attn_implementation": getattr(model.config, "_attn_implementation", None) or "",
        **timed,
    }


def timed_steps(trainer: Any, memory: Memory, least_steps: int, baseline_bytes: int) -> dict[str, Any]:
    """Train one step, then at least `least_steps` more that together take TIMED_SECONDS, or all that there are. Return
    fields of a DepthMeasured: seconds of each step; peak bytes of forward (with the loss), backward (with clipping)
    and optimizer, each of which grows with depth in its own way; peak of torch's allocator (None on a CPU)."""
    from transformers import TrainerCallback

    peaks, reserved, ends = {"forward": 0, "backward": 0, "optimizer": 0}, [], []
    backward = trainer.accelerator.backward

    def note(moment: str) -> None:
        peaks[moment] = max(peaks[moment], memory.peak())
        reserved.append(memory.peak_reserved())
        memory.reset()

    def noted_backward(*args: Any, **kwargs: Any) -> None:
        note("forward")
        backward(*args, **kwargs)
        note("backward")

    def on_log(args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:  # reading the loss waits on a GPU until the step is done
            ends.append(time.perf_counter())
            enough = len(ends) > 1 + least_steps and ends[-1] - ends[1] >= TIMED_SECONDS
            control.should_training_stop = control.should_training_stop or enough

    watch = TrainerCallback()
    watch.on_train_begin = lambda *_, **__: ends.append(time.perf_counter())
    watch.on_step_begin = lambda *_, **__: memory.reset()
    watch.on_pre_optimizer_step = lambda *_, **__: note("backward")
    watch.on_optimizer_step = lambda *_, **__: note("optimizer")
    watch.on_log = on_log
    trainer.accelerator.backward = noted_backward
    trainer.add_callback(watch)
    trainer.train()
    first, *later = (end - start for start, end in pairwise(ends))
    return {
        "moments": {name: peak - baseline_bytes for name, peak in peaks.items()},
        "timed_steps": tuple(later),
        "first_step_seconds": first,
        "peak_reserved_bytes": max(filter(None, reserved), default=None),
    }


def _shortage(error: Exception) -> dict[str, Any] | None:
    """Return limit_bytes, short_bytes (lower bound of the missing bytes) and why ("GPU" or "system") where this error
    or a cause of it means that memory ran out; else None. On a CPU, torch raises a plain RuntimeError."""
    torch = sys.modules.get("torch")
    for each in causes(error):
        if torch is not None and isinstance(each, torch.OutOfMemoryError):
            total = torch.cuda.get_device_properties(0).total_memory
            limit = round(torch.cuda.get_per_process_memory_fraction() * total)
            match = re.search(r"ried to allocate ([\d.]+) ([KMG])iB", str(each))
            requested = float(match[1]) * 1024 ** (1 + "KMG".index(match[2])) if match else 0
            short = max(0, round(requested) - limit + torch.cuda.memory_allocated())
            return {"limit_bytes": limit, "short_bytes": short, "why": "GPU"}
        if isinstance(each, MemoryError) or (isinstance(each, RuntimeError) and "can't allocate memory" in str(each)):
            limit = psutil.Process().memory_info().rss + psutil.virtual_memory().available
            return {"limit_bytes": limit, "short_bytes": 0, "why": "system"}
    return None


def write_random_base(config: Mapping[str, Any], depth: int, folder: Path) -> None:
    """Write config, random weights and a small tokenizer into `folder`; raise UserError where the disk has no room."""
    from rankviz.worker.introspect.layers import build, cut_config

    cut = cut_config(without_code(config), depth)
    shapes, seen = {}, set()
    for name, tensor in build(cut).state_dict(keep_vars=True).items():
        if id(tensor) not in seen:  # of weights that share a tensor a checkpoint holds one
            seen.add(id(tensor))
            shapes[name] = tuple(tensor.shape)
    size = BF16_BYTES * sum(math.prod(shape) for shape in shapes.values())
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    if size > 0.9 * free:
        raise UserError(
            f"{depth} blocks with random weights take {size / 1e9:.1f} GB of disk for a moment, and "
            f"{free / 1e9:.1f} GB are free: make room, or probe fewer blocks."
        )
    _write_safetensors(folder / "model.safetensors", shapes)
    cut.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps({**cut, "torch_dtype": "bfloat16"}))
    write_tokenizer(folder)


def _write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write random safetensors straight to disk, so that no memory is needed. The numbers are normal with standard
    deviation 0.02, neither zero nor denormal."""
    header, _ = new_header({name: ("BF16", shape) for name, shape in shapes.items()}, {})
    chance = random.Random(0)
    few = [struct.pack("<f", chance.gauss(0.0, 0.02))[2:] for _ in range(2**16)]  # bf16: the upper half of an fp32
    noise, ones = b"".join(few) * (CHUNK_NUMBERS // len(few)), struct.pack("<H", 0x3F80) * CHUNK_NUMBERS
    with path.open("wb") as file:
        file.write(header)
        for name, shape in sorted(shapes.items()):
            # Norms start at one, as in any fresh model, or activations would vanish into denormals.
            chunk = ones if len(shape) < 2 and not name.endswith("bias") else noise
            left = BF16_BYTES * math.prod(shape)
            while left > 0:
                left -= file.write(chunk[:left])


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of a few words, which loaders and collators require; the probe's rows are token ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    words = {word: number for number, word in enumerate(names.values())}
    tokenizer = Tokenizer(models.WordLevel(vocab=words, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
