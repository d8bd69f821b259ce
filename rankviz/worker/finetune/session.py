"""Loads base and data with Unsloth, attaches an adapter, trains a run and detaches it. Importing it imports Unsloth."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

# First of all: Unsloth patches transformers, peft and trl, and asks to be imported before them.
import unsloth

# isort: split
import torch
from peft import PeftModel

from rankviz import units
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import Device
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import UnslothCheckpoint
from rankviz.core.runs import events
from rankviz.core.runs.record import readable
from rankviz.core.runs.request import RECOVERY_LEARNING_RATE_SHARE, RunRequest
from rankviz.core.runs.sweep_time import SHOWN_SECONDS, SHOWN_TOKENS
from rankviz.dataset import Dataset
from rankviz.worker import device
from rankviz.worker.base import Base, Download, explain_failure
from rankviz.worker.device import Memory, WorkerSettings, environment, model_fingerprint, settle
from rankviz.worker.finetune import measure
from rankviz.worker.finetune.data import SweepData
from rankviz.worker.finetune.training import save, train, truncation, unsloth_arguments
from rankviz.worker.introspect.layers import layers_of
from rankviz.worker.journal import Journal

UNSLOTHS_OWN = LoraConfig()  # settings under which Unsloth's default class loads the whole checkpoint


def load_base(
    base: Base, settings: WorkerSettings, *, lora: LoraConfig = UNSLOTHS_OWN, download: Download | None = None
) -> tuple[Any, Any, str]:
    """Return (model, tokenizer, the folder or repository that was loaded); on a GPU, Unsloth loads many bases from
    another repository with a quantized copy. download: watch over the download."""
    loaded = [base.name]

    def resolved(name: str) -> None:
        loaded.append(name)
        if download:
            download.repository = name

    resolved(base.name)
    # The CPU backend loads what it was given, and does not know these arguments.
    telling = {"on_model_resolved": resolved, "text_only": lora.text_only} if settings.cuda else {}
    try:
        with download.watched() if download else nullcontext():
            model, tokenizer = getattr(unsloth, lora.unsloth_class).from_pretrained(
                base.name,
                max_seq_length=settings.training.max_length,
                dtype=settings.dtype_name and getattr(torch, settings.dtype_name),
                load_in_4bit=settings.training.precision == "nf4-dq",
                load_in_8bit=settings.training.precision == "int8",
                use_gradient_checkpointing=settings.gradient_checkpointing,
                **settings.placement,
                **telling,
            )
    except Exception as error:
        if (explained := explain_failure(error, base)) is None:
            raise
        raise explained from error
    return model, tokenizer, loaded[-1]


def attach(model: Any, request: RunRequest, plan: AdapterPlan, settings: WorkerSettings) -> Any:
    """Return the base with a new adapter attached by Unsloth."""
    lora = request.lora
    return getattr(unsloth, lora.unsloth_class).get_peft_model(
        model,
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        **unsloth_arguments(lora, plan),
        lora_dropout=0,
        bias="none",
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        use_gradient_checkpointing=settings.gradient_checkpointing,
        random_state=request.seed,
        max_seq_length=request.training.max_length,
    )


def detach(adapter: PeftModel) -> Any:
    """Detach the adapter and return the base, with its own layers in place of PEFT's wrappers."""
    model = adapter.unload()
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


class Session:
    """A base and the data of a sweep in memory, for training one run after another."""

    def __init__(self, journal: Journal, base: Base, rows: Dataset, download: Download | None = None) -> None:
        request = journal.request
        self.base, self.settings = base, settle(request.training, cuda=device.has_cuda())
        self.memory = Memory(cuda=self.settings.cuda)
        self.memory.settle()
        journal.begin(events.LOADING)
        self.model, self.tokenizer, loaded = load_base(base, self.settings, lora=request.lora, download=download)
        journal.begin("tokenizing the data")
        self.data = SweepData(rows, self.tokenizer, request.training.max_length, request.held_out_examples)
        self.questions = self.data.questions(request.exact_match_examples)
        self.shown = self.data.questions(request.shown_answers, may_be_cut=True)
        self.environment = {
            **environment(self.settings.cuda),
            "base": base.name if not base.is_local else Path(base.name).name,
            "loaded_from": Path(base.name).name if base.is_local else loaded,
            "model_fingerprint": model_fingerprint(self.model),
            "total_parameters": self.model.num_parameters(),
            "data_fingerprint": rows.fingerprint,
            "train_examples": len(self.data.training),
            "held_out_examples": len(self.data.held_out),
            "base_dtype": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            **self.settings.facts,
        }
        # The checkpoint tells whether gpt-oss has a linear layer for each expert.
        checkpoint = UnslothCheckpoint(repository=loaded)
        self.spec = replace(layers_of(self.model.config.to_dict()), unsloth_checkpoint=checkpoint)
        self._hooks = {module: {*module._forward_hooks, *module._forward_pre_hooks} for module in self.model.modules()}
        self._base_events: list[events.Evaluated | events.Answered] = []
        cuda = self.settings.cuda  # Unsloth's generate for CUDA sets its own autocast
        self._answering = {"cuda": cuda, "autocast": None if cuda else self.settings.mixed_precision}
        self.intact = True
        """True while the base is as loaded; False for good after a failed attach or detach."""

    def run(self, journal: Journal) -> None:
        """Train one run from a new adapter to its completion. After an error, load the base again unless `intact`."""
        request, log = journal.request, journal.append
        plan = plan_on(self.spec, request.lora, self.settings.training, Device(cuda=self.settings.cuda))
        facts = {**self.environment, "target_modules": plan.target_modules}
        log(events.RunStarted(time=time.time(), environment=facts))
        self.memory.settle()
        baseline_bytes = self.memory.now()
        journal.begin("attaching the adapter")
        self.intact, adapter = False, None
        try:
            adapter = attach(self.model, request, plan, self.settings)
            trainable = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
            log(events.AdapterAttached(time=time.time(), trainable_parameters=trainable))
            self._log_base(adapter, journal)
            journal.begin("preparing the training rows")
            rows = self.data.in_order(request.seed, request.max_steps * request.training.rows_per_step)
            journal.begin(events.TRAINING)
            self.memory.reset()
            train_seconds = train(adapter, self.tokenizer, rows, request, self.settings, memory=self.memory, log=log)
            peak_bytes, peak_reserved_bytes = self.memory.peak(), self.memory.peak_reserved()
            journal.begin("evaluating the adapter")
            for event in self._measured(adapter, "after", journal):
                log(event)
            journal.begin("saving the adapter")
            file_bytes = save(adapter, journal.folder / "adapter", self.base)
            log(events.AdapterSaved(time=time.time(), path="adapter", file_bytes=file_bytes))
            if request.cut_ranks:
                self._truncate(adapter, journal)
        finally:
            if adapter is not None:
                self.model = detach(adapter)
                # get_peft_model adds hooks to the input embedding, so that gradients reach checkpointed blocks, and
                # PEFT's unload leaves them there.
                for module, own in self._hooks.items():
                    for hooks in (module._forward_hooks, module._forward_pre_hooks):
                        for key in set(hooks) - own:
                            del hooks[key]
                self.intact = True
                del adapter
        log(
            events.RunCompleted(
                time=time.time(),
                train_seconds=train_seconds,
                peak_memory_bytes=peak_bytes,
                peak_memory_kind=self.memory.kind,
                baseline_memory_bytes=baseline_bytes,
                peak_reserved_bytes=peak_reserved_bytes,
            )
        )

    def _log_base(self, adapter: Any, journal: Journal) -> None:
        """Log loss and answers of the base, measured once for all runs: with B = 0 an adapter changes nothing."""
        if self._base_events:
            for event in self._base_events:
                journal.append(replace(event, time=time.time()))
            return
        journal.begin("evaluating the base")
        for event in self._measured(adapter, "before", journal):
            journal.append(event)
            spent = {"exact_match_seconds": None} if isinstance(event, events.Evaluated) else {}
            self._base_events.append(replace(event, seconds=0.0, reused=True, **spent))

    def _measured(
        self, model: Any, when: events.When, journal: Journal
    ) -> Iterator[events.Evaluated | events.Answered]:
        """Yield the model's evaluation, then its answers to `shown` as text. The answers may take as many seconds as
        the evaluation did, at least SHOWN_SECONDS."""
        yield (evaluation := self.evaluate(model, when, journal))
        if not self.shown:
            return
        journal.begin(f"writing {units.counted(len(self.shown), 'held-out answer')}")
        started, limit = time.monotonic(), max(SHOWN_SECONDS, evaluation.seconds)
        options = {"most": SHOWN_TOKENS, "seconds": limit, **self._answering}
        written = measure.answers(model, self.tokenizer, self.shown, **options)
        answers = tuple(
            events.GreedyAnswer(
                place=place,
                prompt=question.texts[0],
                reference=question.texts[1],
                text=readable(written[place][0]),
                ended=written[place][1],
            )
            for place, question in self.shown.items()
        )
        seconds = time.monotonic() - started
        yield events.Answered(time=time.time(), when=when, answers=answers, seconds=seconds)

    def _truncate(self, adapter: Any, journal: Journal) -> None:
        """Truncate the saved adapter to each lower rank, the highest first, and evaluate each. Low ranks are trained
        for a few steps on new rows, and saved; the next is truncated from the result."""
        request = journal.request
        journal.begin("decomposing the adapter")
        truncate, recovered = truncation(adapter), 0
        rows_a_step = request.training.rows_per_step
        for r in request.cut_ranks:
            journal.begin(f"truncating to r = {r}")
            started, steps, path, file_bytes = time.monotonic(), request.recovery_steps(r), "", None
            truncate(r)
            if steps:
                recovery = replace(
                    request,
                    training=replace(request.training, max_steps=steps),
                    learning_rate=RECOVERY_LEARNING_RATE_SHARE * request.learning_rate,
                )
                seen = (request.max_steps + recovered) * rows_a_step
                rows = self.data.in_order(request.seed, steps * rows_a_step, skip=seen)
                train(adapter, self.tokenizer, rows, recovery, self.settings, memory=self.memory, log=lambda step: None)
                truncate, recovered, path = truncation(adapter), recovered + steps, f"cuts/r{r}"
                file_bytes = save(adapter, journal.folder / path, self.base, r)
            evaluation = self.evaluate(adapter, "after", journal)
            held_out = {f.name: getattr(evaluation, f.name) for f in fields(events.HeldOut)}
            journal.append(
                events.AdapterCut(
                    **held_out | {"time": time.time()},
                    r=r,
                    seconds=time.monotonic() - started,
                    example_losses=evaluation.example_losses,
                    recovery_steps=recovered,
                    path=path,
                    file_bytes=file_bytes,
                )
            )

    def evaluate(self, model: Any, when: events.When, journal: Journal) -> events.Evaluated:
        """Return loss and token accuracy, and exact matches where they were requested."""
        evaluation = measure.evaluate(
            model,
            self.data.held_out,
            when=when,
            pad_token_id=self.tokenizer.pad_token_id,
            autocast=self.settings.mixed_precision,
            progress=journal.progress,
        )
        if not self.questions:
            return evaluation
        journal.begin(f"answering {units.counted(len(self.questions), 'held-out prompt')}")
        started, examples = time.monotonic(), len(self.data.held_out)
        matches = measure.exact_matches(model, self.tokenizer, self.questions, examples=examples, **self._answering)
        seconds = time.monotonic() - started
        return replace(evaluation, time=time.time(), example_exact_matches=matches, exact_match_seconds=seconds)
