"""Trains one run with TRL's SFTTrainer on a model that Unsloth prepared, and writes each step to the journal."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rankviz.core.runs.events import StepLogged
from rankviz.core.runs.request import RunRequest
from rankviz.worker.finetune.data import OrderedRows, Tokens
from rankviz.worker.memory import Memory, ProcessorClock
from rankviz.worker.settings import Settings

LR_SCHEDULE = "linear"
READ_SECONDS = 1.0
"""Processor time is read so often, and at the last step: a read takes 6 ms with 200 threads, a step on a GPU may take
100."""


def train(
    model: Any,
    tokenizer: Any,
    rows: OrderedRows,
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
    row_tokens = (len(row.input_ids) for row in rows)

    class Journal(TrainerCallback):
        started = ended = 0.0
        counted_steps = tokens = 0

        def tokens_until(self, step):
            self.tokens += sum(islice(row_tokens, (step - self.counted_steps) * rows_a_step))
            self.counted_steps = step
            return self.tokens

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
                        tokens=self.tokens_until(state.global_step),
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
    rows: OrderedRows | Sequence[Tokens],
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
    built = trainer(
        model=model,
        args=config(**arguments),
        processing_class=tokenizer,
        # TRL takes nothing but a table, and Unsloth looks through it for tokens without weights: each row once.
        train_dataset=Dataset.from_list([as_features(row) for row in until_the_first_repeats(rows)]),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
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
    """A row that is met again is the same object."""
    seen: set[int] = set()
    for row in rows:
        if id(row) in seen:
            return
        seen.add(id(row))
        yield row
