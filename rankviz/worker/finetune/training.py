"""Trains one run with TRL's SFTTrainer on a model that Unsloth prepared, and writes each step to the journal."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rankviz.core.runs.events import StepLogged
from rankviz.core.runs.request import RunRequest
from rankviz.worker.device import Memory, ProcessorClock
from rankviz.worker.finetune.data import IGNORED, OrderedRows, Tokens
from rankviz.worker.settings import WorkerSettings

LR_SCHEDULE = "linear"
READ_SECONDS = 1.0
"""Processor time is read so often, and at the last step: a read takes 6 ms with 200 threads, a step on a GPU may take
100."""


def train(
    model: Any,
    tokenizer: Any,
    rows: OrderedRows,
    request: RunRequest,
    settings: WorkerSettings,
    *,
    memory: Memory,
    log: Callable[[StepLogged], None],
) -> float:
    """Train on the rows in their order, once, and return the seconds it took.

    `rows` holds exactly steps × batch × accumulation rows, so the trainer shuffles nothing and meets each once.
    """
    from transformers import TrainerCallback

    rows_a_step = request.training.rows_per_step
    row_tokens = (len(row.input_ids) for row in rows)

    class StepLog(TrainerCallback):
        seconds = 0.0
        counted_steps = tokens = 0

        def on_train_begin(self, args, state, control, **kwargs):
            self.started = self.read_at = time.monotonic()
            self.processor = ProcessorClock()

        def on_log(self, args, state, control, logs=None, **kwargs):
            if not logs or "loss" not in logs:
                return
            now, use = time.monotonic(), {}
            if state.global_step == state.max_steps or now - self.read_at >= READ_SECONDS:
                self.read_at, use = now, self.processor.read().fields
            self.tokens += sum(islice(row_tokens, (state.global_step - self.counted_steps) * rows_a_step))
            self.counted_steps = state.global_step
            log(
                StepLogged(
                    time=time.time(),
                    step=state.global_step,
                    loss=logs["loss"],
                    learning_rate=logs["learning_rate"],
                    tokens=self.tokens,
                    seconds=now - self.started,
                    memory_bytes=memory.now(),
                    **use,
                )
            )

        def on_train_end(self, args, state, control, **kwargs):
            self.seconds = time.monotonic() - self.started

    steps = StepLog()
    with tempfile.TemporaryDirectory(prefix="rankviz-") as scratch:
        build_trainer(model, tokenizer, rows, request, settings, scratch, [steps]).train()
    return steps.seconds


def build_trainer(
    model: Any,
    tokenizer: Any,
    rows: OrderedRows | Sequence[Tokens],
    request: RunRequest,
    settings: WorkerSettings,
    scratch: str,
    callbacks: Sequence[Any],
    *,
    plain: bool = False,
) -> Any:
    """Return TRL's SFTTrainer, or transformers' own Trainer (`plain`), that meets each row once, in their order.

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
        skip = {"skip_prepare_dataset": True}
        arguments |= {"max_length": request.training.max_length, "packing": False, "dataset_kwargs": skip}
    trainer, config = (Trainer, TrainingArguments) if plain else (SFTTrainer, SFTConfig)
    built = trainer(
        model=model,
        args=config(**arguments),
        processing_class=tokenizer,
        # TRL takes nothing but a table, and Unsloth looks through it for tokens without weights: each row once.
        train_dataset=Dataset.from_list([as_features(row) for row in until_the_first_repeats(rows)]),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        callbacks=list(callbacks),
    )
    built.train_dataset = Features(rows)
    return built


class Features:
    """Rows as a trainer reads them, one at a time."""

    def __init__(self, rows: OrderedRows | Sequence[Tokens]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        return as_features(self._rows[i])


def as_features(row: Tokens) -> dict[str, list[int]]:
    return {"input_ids": row.input_ids, "labels": row.labels}


def until_the_first_repeats(rows: Iterable[Tokens]) -> Iterator[Tokens]:
    """Yield rows until one is the same object as an earlier one."""
    seen: set[int] = set()
    for row in rows:
        if id(row) in seen:
            return
        seen.add(id(row))
        yield row
