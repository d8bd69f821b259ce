"""Trains one adapter with TRL's SFTTrainer, saves it as PEFT loads it, and truncates it in place.
Importing this module imports neither torch, PEFT nor Unsloth."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.runs.events import StepLogged
from rankviz.core.runs.request import RunRequest
from rankviz.core.spectrum import alpha_for
from rankviz.errors import InvalidSettingError
from rankviz.trained import svd
from rankviz.worker.base import Base
from rankviz.worker.device import Memory, WorkerSettings
from rankviz.worker.finetune.data import IGNORED, Tokens


def peft_arguments(lora: LoraConfig, plan: AdapterPlan) -> dict[str, Any]:
    """Return the plan's modules as arguments of PEFT's LoraConfig."""
    modules = plan.target_modules
    arguments: dict[str, Any] = {"target_modules": modules if isinstance(modules, str) else list(modules)}
    if plan.target_parameters:
        arguments["target_parameters"] = list(plan.target_parameters)
    if plan.modules_to_save:
        arguments["modules_to_save"] = list(plan.modules_to_save)
    return arguments | plan.patterns(lora)


def with_peft_adapter(model: Any, lora: LoraConfig, plan: AdapterPlan) -> Any:
    """Attach the plan's adapter with PEFT alone."""
    import peft  # not above: runs import Unsloth before PEFT

    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=0,
        bias="none",
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        task_type="CAUSAL_LM",
        **peft_arguments(lora, plan),
    )
    return peft.get_peft_model(model, config)


def unsloth_arguments(lora: LoraConfig, plan: AdapterPlan) -> dict[str, Any]:
    """Return the plan's modules and flags as arguments of Unsloth's get_peft_model. On a GPU, Unsloth adds the experts
    unless target_parameters is an empty list; its CPU backend keeps PEFT's own rewrite of experts.
    tests/worker/finetune/test_finetune.py compares trained with counted parameters."""
    arguments = peft_arguments(lora, plan) | plan.unsloth_flags
    if plan.route.kind == "model" and plan.scheme == "linear-only":
        arguments["target_parameters"] = []
    return arguments


def save(adapter: Any, folder: Path, base: Base, k: int | None = None) -> int:
    """Write the adapter's files and return the bytes of its weights. PEFT names the base by the place that it was
    loaded from; for the embedded model, the Hub id replaces it. k: rank of an adapter that was truncated."""
    adapter.save_pretrained(folder)
    config, card = folder / "adapter_config.json", folder / "README.md"
    values = json.loads(config.read_text(encoding="utf-8"))
    if k is not None:
        trained = adapter.peft_config[ADAPTER]
        scale = trained.lora_alpha / (sqrt(trained.r) if trained.use_rslora else trained.r)
        values |= {"r": k, "lora_alpha": alpha_for(scale, k, use_rslora=trained.use_rslora)}
    if base.published_as:
        values["base_model_name_or_path"] = base.published_as
        card.write_text(card.read_text(encoding="utf-8").replace(base.name, base.published_as), encoding="utf-8")
    config.write_text(json.dumps(values, indent=2, sort_keys=True), encoding="utf-8")
    return (folder / "adapter_model.safetensors").stat().st_size


ADAPTER = "default"


def truncation(model: Any) -> Callable[[int], None]:
    """Return a function that truncates a trained adapter in place to rank k, from its LoRA pairs as they are now. Each
    module's update B·A is truncated to its first k singular values (trained.svd), and the pair of rank k replaces the
    trained pair. PEFT's scale does not change, also not in further steps."""
    import torch

    layers = {name: layer for name, layer in model.named_modules() if ADAPTER in getattr(layer, "lora_A", {})}
    if not layers:
        raise InvalidSettingError("This adapter cannot be truncated: it has no B·A on linear layers.")
    weights = {name: (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight) for name, layer in layers.items()}
    pairs = {
        # Copies: training on goes through the very tensors.
        name: tuple(weight.detach().float().cpu().clone().numpy() for weight in pair)
        for name, pair in weights.items()
    }
    decompositions = svd.of_each(pairs, lambda name: svd.decompose(name, pairs[name]))

    def truncate(k: int) -> None:
        low = svd.of_each(pairs, lambda name: svd.truncate(pairs[name], decompositions[name], k))
        for name, pair in low.items():
            for weight, factor in zip(weights[name], pair, strict=True):
                weight.grad = None
                weight.data = torch.from_numpy(factor).to(weight)

    return truncate


def train(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Tokens],
    request: RunRequest,
    settings: WorkerSettings,
    *,
    memory: Memory,
    log: Callable[[StepLogged], None],
) -> float:
    """Train once on all rows in order, and return the seconds it took. rows: exactly steps × batch × accumulation."""
    from transformers import TrainerCallback

    rows_a_step = request.training.rows_per_step

    watch, marks, counted, tokens = TrainerCallback(), {}, 0, 0

    def on_log(args, state, control, logs=None, **kwargs):
        nonlocal counted, tokens
        if not logs or "loss" not in logs:
            return
        before, counted = counted, state.global_step * rows_a_step
        tokens += sum(len(row.input_ids) for row in rows[before:counted])
        log(
            StepLogged(
                time=time.time(),
                step=state.global_step,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                tokens=tokens,
                seconds=time.monotonic() - marks["begin"],
                memory_bytes=memory.now(),
            )
        )

    watch.on_log = on_log
    watch.on_train_begin = lambda *_, **__: marks.update(begin=time.monotonic())
    watch.on_train_end = lambda *_, **__: marks.update(end=time.monotonic())
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:
        build_trainer(model, tokenizer, rows, request, settings, scratch, [watch]).train()
    return marks["end"] - marks["begin"]


def build_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Tokens],
    request: RunRequest,
    settings: WorkerSettings,
    scratch: str,
    callbacks: Sequence[Any],
    *,
    plain: bool = False,
) -> Any:
    """Return TRL's SFTTrainer, or transformers' own Trainer (`plain`), that reads each row once, in order. scratch: an
    output folder that the trainer requires; nothing is saved in it."""
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments
    from trl import SFTConfig, SFTTrainer

    arguments = {
        "output_dir": scratch,
        "max_steps": request.max_steps,
        "per_device_train_batch_size": request.training.per_device_train_batch_size,
        "gradient_accumulation_steps": request.training.gradient_accumulation_steps,
        "learning_rate": request.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": request.warmup_steps,
        "optim": settings.optim,
        "weight_decay": 0.0,
        "seed": request.seed,
        "data_seed": request.seed,
        "train_sampling_strategy": "sequential",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_first_step": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **settings.trainer_arguments,
    }
    trainer, config = Trainer, TrainingArguments
    if not plain:
        trainer, config, skip = SFTTrainer, SFTConfig, {"skip_prepare_dataset": True}
        arguments |= {"max_length": request.training.max_length, "packing": False, "dataset_kwargs": skip}
    # TRL takes nothing but a table, and Unsloth looks through it for tokens without weights: each row once.
    features = {id(row): {"input_ids": row.input_ids, "labels": row.labels} for row in rows}
    built = trainer(
        model=model,
        args=config(**arguments),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([*features.values()]),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        callbacks=list(callbacks),
    )
    built.train_dataset = [features[id(row)] for row in rows]
    return built
