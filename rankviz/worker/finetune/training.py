"""Trains one run with TRL's SFTTrainer on a model that Unsloth prepared, and writes each step to the journal."""

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from rankviz.core.runs.events import StepLogged
from rankviz.core.runs.request import RunRequest
from rankviz.worker.finetune.data import Tokens
from rankviz.worker.memory import Memory
from rankviz.worker.processor import ProcessorClock
from rankviz.worker.settings import Settings

LR_SCHEDULE = "linear"
READ_SECONDS = 1.0
"""Processor time is read so often, and at the last step: a read takes 6 ms with 200 threads, a step on a GPU may take
100."""


def train(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Tokens],
    request: RunRequest,
    settings: Settings,
    *,
    memory: Memory,
    log: Callable[[StepLogged], None],
) -> float:
    """Train on the rows in their order, once, and return the seconds it took.

    `rows` holds exactly steps × batch × accumulation rows, so the trainer shuffles nothing and meets each once.
    """
    from transformers import TrainerCallback

    rows_a_step = request.training.rows_per_step
    row_tokens = [len(row.input_ids) for row in rows]
    tokens_after = list(accumulate(sum(row_tokens[i : i + rows_a_step]) for i in range(0, len(rows), rows_a_step)))

    class Journal(TrainerCallback):
        started = ended = 0.0

        def on_train_begin(self, args, state, control, **kwargs):
            self.started = time.monotonic()
            self.processor, self.read_at = ProcessorClock(), self.started

        def processor_use(self, *, last):
            if not last and time.monotonic() - self.read_at < READ_SECONDS:
                return {}
            self.read_at = time.monotonic()
            return self.processor.read().fields

        def on_log(self, args, state, control, logs=None, **kwargs):
            if logs and "loss" in logs:
                log(
                    StepLogged(
                        time=time.time(),
                        step=state.global_step,
                        loss=logs["loss"],
                        learning_rate=logs["learning_rate"],
                        tokens=tokens_after[state.global_step - 1],
                        seconds=time.monotonic() - self.started,
                        memory_bytes=memory.now(),
                        **self.processor_use(last=state.global_step == state.max_steps),
                    )
                )

        def on_train_end(self, args, state, control, **kwargs):
            self.ended = time.monotonic()

    journal = Journal()
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:
        build_trainer(model, tokenizer, rows, request, settings, scratch, [journal]).train()
    return journal.ended - journal.started


def build_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Tokens],
    request: RunRequest,
    settings: Settings,
    scratch: str,
    callbacks: Sequence[Any],
    *,
    plain: bool = False,
) -> Any:
    """TRL's SFTTrainer, or transformers' own Trainer (`plain`), that meets each row once, in their order.

    scratch: a folder; the trainer wants one, and nothing is saved there.
    """
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments
    from trl import SFTConfig, SFTTrainer

    arguments = {
        "output_dir": scratch,
        "max_steps": request.max_steps,
        "per_device_train_batch_size": request.training.per_device_train_batch_size,
        "gradient_accumulation_steps": request.training.gradient_accumulation_steps,
        "learning_rate": request.learning_rate,
        "lr_scheduler_type": LR_SCHEDULE,
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
        **settings.autocast,
        **settings.checkpointing_arguments,
    }
    if not plain:
        arguments |= {
            "max_length": request.training.max_length,
            "packing": False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
    trainer, config = (Trainer, TrainingArguments) if plain else (SFTTrainer, SFTConfig)
    return trainer(
        model=model,
        args=config(**arguments),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict(
            {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
        ),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
        callbacks=list(callbacks),
    )
