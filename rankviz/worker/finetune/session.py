"""Loads the base and the data, and trains runs on them. Importing this module imports Unsloth."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

# First of all: Unsloth patches transformers, peft and trl, and asks to be imported before them.
import unsloth

# isort: split
from peft import PeftModel

from rankviz import units
from rankviz.core.cost.adapter import plan_on
from rankviz.core.cost.device import Device
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import second_towers, text_part
from rankviz.core.runs.events import (
    AdapterAttached,
    AdapterCut,
    AdapterSaved,
    Evaluated,
    HeldOut,
    RunCompleted,
    RunEvent,
    RunStarted,
    StageReached,
)
from rankviz.core.runs.request import RECOVERY_LEARNING_RATE_SHARE, RunRequest
from rankviz.dataset import Dataset
from rankviz.machine import load_average
from rankviz.worker import device
from rankviz.worker.environment import machine, model_fingerprint
from rankviz.worker.finetune.adapter import unsloth_arguments
from rankviz.worker.finetune.answers import exact_matches
from rankviz.worker.finetune.base import Base
from rankviz.worker.finetune.data import Question, SweepData
from rankviz.worker.finetune.evaluation import evaluate
from rankviz.worker.finetune.load import load_base
from rankviz.worker.finetune.training import LR_SCHEDULE, train
from rankviz.worker.finetune.truncate import Truncator
from rankviz.worker.introspect.main import layers_of
from rankviz.worker.memory import Memory
from rankviz.worker.processor import ProcessorClock
from rankviz.worker.settings import Settings, settle


@dataclass(slots=True)
class Session:
    model: Any
    """The base, without an adapter between runs."""
    spec: ModelSpec
    """Its layers; of a multimodal model on a CPU, those of the text model alone."""
    left_out: tuple[str, ...]
    """Paths of its other towers, where the run leaves them alone."""
    tokenizer: Any
    data: SweepData
    settings: Settings
    memory: Memory
    environment: dict[str, Any]
    hooks: "Hooks"
    questions: dict[int, Question]
    """Held-out prompts to be answered, by place; none where exact match was not requested."""
    base_loss: Evaluated | None = None
    loading: dict[str, float | None] = field(default_factory=dict)
    """How busy the machine was while the base was loaded, as a run's environment has it; for the first run."""
    intact: bool = True
    """Whether the base is as it was loaded. False while an adapter is attached, and for good where attaching or
    detaching failed halfway."""

    @classmethod
    def load(cls, request: RunRequest, base: Base, rows: Dataset, stage: Callable[[str], None]) -> "Session":
        settings = settle(request.training, cuda=device.has_cuda())
        memory = Memory(cuda=settings.cuda)
        memory.settle()
        stage("loading the base")
        resolved: list[str] = []
        model, tokenizer = load_base(base, settings, resolved.append, request.lora.unsloth_class)
        stage("tokenizing the data")
        data = SweepData(rows, tokenizer, request.training.max_length, request.held_out_examples)
        questions = data.questions(request.exact_match_examples)
        environment = {
            **machine(settings.cuda),
            "base": base.name if not base.is_local else Path(base.name).name,
            "loaded_from": Path(base.name).name if base.is_local else resolved[-1],
            "model_fingerprint": model_fingerprint(model),
            "total_parameters": model.num_parameters(),
            "data_fingerprint": rows.fingerprint,
            "train_examples": len(data.training),
            "held_out_examples": len(data.held_out),
            "base_dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            **settings.facts,
            "lr_scheduler_type": LR_SCHEDULE,
            "lora_dropout": 0,
            "bias": "none",
        }
        spec, left_out = layers_of(model.config.to_dict()), ()
        if spec.tower == "whole model" and not settings.cuda:
            # The CPU backend loads some text towers with the rest of the model, and has no flag to leave that out.
            spec, left_out = text_part(spec), second_towers(spec)
        return cls(model, spec, left_out, tokenizer, data, settings, memory, environment, Hooks(model), questions)

    def run(self, request: RunRequest, log: Callable[[RunEvent], None], run_dir: Path) -> None:
        """One run from a fresh adapter to its completion. Where this raises, look at `intact`: a base that is not needs
        to be loaded anew."""

        def stage(words: str) -> None:
            log(StageReached(time=time.time(), stage=words))

        plan = self._plan(request)
        facts = {"target_modules": plan.target_modules, "warmup_steps": request.warmup_steps}
        loading, self.loading = self.loading or {"load_average": load_average()}, {}
        log(RunStarted(time=time.time(), environment={**self.environment, **facts, **loading}))
        clock = ProcessorClock()
        self.memory.settle()
        baseline_bytes = self.memory.now()
        stage("attaching the adapter")
        self.intact, adapter = False, None
        try:
            adapter = attach(self.model, request, plan, self.settings, self.left_out)
            trainable = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
            log(AdapterAttached(time=time.time(), trainable_parameters=trainable))
            if self.base_loss is None:
                stage("evaluating the base")
                self.base_loss = self._evaluate(adapter, "before", stage)
                log(self.base_loss)
            else:
                spent = {"seconds": 0.0, "own_cpu_seconds": 0.0, "waited_cpu_seconds": 0.0}
                log(replace(self.base_loss, time=time.time(), **spent, exact_match_seconds=None, reused=True))
            stage("training")
            rows = self.data.in_order(request.seed, request.max_steps * request.training.rows_per_step)
            self.memory.reset()
            train_seconds = train(
                adapter,
                self.tokenizer,
                rows,
                request,
                self.settings,
                memory=self.memory,
                log=log,
            )
            peak_bytes, peak_reserved_bytes = self.memory.peak(), self.memory.peak_reserved()
            stage("evaluating the adapter")
            log(self._evaluate(adapter, "after", stage))
            stage("saving the adapter")
            adapter.save_pretrained(run_dir / "adapter")
            file_bytes = (run_dir / "adapter" / "adapter_model.safetensors").stat().st_size
            log(AdapterSaved(time=time.time(), path="adapter", file_bytes=file_bytes))
            if request.cut_ranks:
                self._cut(adapter, request, log, stage, run_dir)
        finally:
            if adapter is not None:
                self.model = detach(adapter)
                self.hooks.restore()
                self.intact = True
                del adapter
        log(
            RunCompleted(
                time=time.time(),
                train_seconds=train_seconds,
                peak_memory_bytes=peak_bytes,
                peak_memory_kind=self.memory.kind,
                baseline_memory_bytes=baseline_bytes,
                peak_reserved_bytes=peak_reserved_bytes,
                **clock.read().fields,
            )
        )

    def _cut(
        self,
        adapter: Any,
        request: RunRequest,
        log: Callable[[RunEvent], None],
        stage: Callable[[str], None],
        run_dir: Path,
    ) -> None:
        """The saved adapter truncated to each lower rank and evaluated, the highest first.

        Low ranks are trained a few steps on the rows after those that the adapter has seen, and saved; the next lower
        rank is truncated from the result.
        """
        stage("decomposing the adapter")
        truncator, recovered = Truncator(adapter), 0
        rows_a_step = request.training.rows_per_step
        for r in request.cut_ranks:
            stage(f"truncating to r = {r}")
            started, steps, path = time.monotonic(), request.recovery_steps(r), ""
            truncator.truncate(r)
            if steps:
                seen = (request.max_steps + recovered) * rows_a_step
                recovery = replace(
                    request,
                    training=replace(request.training, max_steps=steps),
                    learning_rate=RECOVERY_LEARNING_RATE_SHARE * request.learning_rate,
                )
                rows = self.data.in_order(request.seed, seen + steps * rows_a_step)[seen:]
                train(adapter, self.tokenizer, rows, recovery, self.settings, memory=self.memory, log=lambda _: None)
                truncator, recovered, path = Truncator(adapter), recovered + steps, f"cuts/r{r}"
                truncator.save(r, run_dir / path)
            evaluation = self._evaluate(adapter, "after", stage)
            measured = {f.name: getattr(evaluation, f.name) for f in fields(HeldOut)}
            log(
                AdapterCut(
                    **measured,
                    time=time.time(),
                    r=r,
                    seconds=time.monotonic() - started,
                    example_losses=evaluation.example_losses,
                    recovery_steps=recovered,
                    path=path,
                )
            )

    def _plan(self, request: RunRequest) -> AdapterPlan:
        return plan_on(self.spec, request.lora, self.settings.training, Device(cuda=self.settings.cuda))

    def _evaluate(self, model: Any, when: str, stage: Callable[[str], None]) -> Evaluated:
        autocast = self.settings.mixed_precision
        clock = ProcessorClock()
        evaluation = evaluate(
            model, self.data.held_out, when=when, pad_token_id=self.tokenizer.pad_token_id, autocast=autocast
        )
        evaluation = replace(evaluation, **clock.read().fields)
        if not self.questions:
            return evaluation
        stage(f"answering {units.counted(len(self.questions), 'held-out prompt')}")
        started = time.monotonic()
        matches = exact_matches(
            model,
            self.tokenizer,
            self.questions,
            examples=len(self.data.held_out),
            autocast=autocast,
            cached=not self.settings.cuda,
        )
        return replace(
            evaluation,
            time=time.time(),
            example_exact_matches=matches,
            exact_match_seconds=time.monotonic() - started,
        )


def attach(model: Any, request: RunRequest, plan: AdapterPlan, settings: Settings, left_out: Sequence[str] = ()) -> Any:
    """A fresh adapter on the base, as Unsloth puts it there. left_out: paths of towers without one."""
    return getattr(unsloth, request.lora.unsloth_class).get_peft_model(
        model,
        r=request.lora.r,
        lora_alpha=request.lora.lora_alpha,
        **unsloth_arguments(plan, left_out),
        lora_dropout=0,
        bias="none",
        use_rslora=request.lora.use_rslora,
        use_dora=request.lora.use_dora,
        use_gradient_checkpointing=settings.gradient_checkpointing,
        random_state=request.seed,
        max_seq_length=request.training.max_length,
    )


def detach(adapter: PeftModel) -> Any:
    """Take the adapter off: PEFT puts the base's own layers back where it had wrapped them."""
    model = adapter.unload()
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


class Hooks:
    """The forward hooks of a model as it was loaded. Each get_peft_model adds some to the input embedding (gradients
    must reach the checkpointed blocks), which PEFT's unload leaves there."""

    def __init__(self, model: Any):
        self._kept = {module: set(module._forward_hooks) | set(module._forward_pre_hooks) for module in model.modules()}

    def restore(self) -> None:
        """Remove what was added since."""
        for module, kept in self._kept.items():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [key for key in hooks if key not in kept]:
                    del hooks[key]
