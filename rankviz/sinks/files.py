"""What is published as files: an adapter with its model card, a sweep as a dataset, and where it goes."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rankviz import installed
from rankviz.core.bounds import one_of
from rankviz.errors import BadAdapterError, InvalidSettingError, quoted
from rankviz.export.tables import Table, write_rows, write_table
from rankviz.paths import is_hub_id
from rankviz.sinks.cards import (
    RunFacts,
    SweepFacts,
    data_label,
    dataset_card,
    model_card,
    public_environment,
    public_request,
)
from rankviz.store.archive import LOSS_COLUMNS, loss_rows, summary_row

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MAX_CONFIG_BYTES = 4_000_000


def write_adapter(run: RunFacts, sweep: SweepFacts, weights: Path, config: Path, folder: Path) -> Sequence[str]:
    """Put the files of a run's adapter into a folder; returns their names. The weights are linked, not copied.

    weights, config: as the run saved them.
    """
    settings = public_config(_read(config), run.base_model)
    (folder / CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    os.symlink(weights, folder / WEIGHTS)
    card = model_card(run, sweep, file_bytes=weights.stat().st_size, targets=settings.get("target_modules"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return [WEIGHTS, CONFIG, "README.md"]


def public_config(settings: Mapping[str, Any], base_model: str) -> Mapping[str, Any]:
    """PEFT's configuration with the id of the base on the Hub; any other path in it becomes null."""
    known = {name: None if _is_path(value) else value for name, value in settings.items()}
    return known | {"base_model_name_or_path": base_model}


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~/", "\\"))


def _read(config: Path) -> Mapping[str, Any]:
    if config.stat().st_size > MAX_CONFIG_BYTES:
        raise BadAdapterError(f"{CONFIG} has {config.stat().st_size:,} bytes, more than one can have.")
    try:
        settings = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise BadAdapterError(f"{CONFIG} of this run cannot be read.")
    return settings


RUNS, STEPS, HELD_OUT = "runs", "losses_by_step", "held_out_losses"


STEP_COLUMNS = {
    "run_id": str,
    "r": int,
    "learning_rate": float,
    "seed": int,
    "step": int,
    "loss": float,
    "step_learning_rate": float,
    "tokens": int,
    "seconds": float,
    "memory_bytes": int,
}
HELD_OUT_COLUMNS = {"run_id": str, **LOSS_COLUMNS}


def write_dataset(sweep: SweepFacts, folder: Path) -> Sequence[str]:
    """Write the files of a sweep's dataset into a folder; returns their names. Tables are Parquet, or CSV where pyarrow
    is not installed. The steps and the examples of one run at a time are in memory."""
    kind = "parquet" if installed.has_pyarrow() else "csv"
    runs = write_table(Table(name=RUNS, rows=[_run_row(run) | sweep.cost for run in sweep.runs]), kind, folder)
    names = {RUNS: runs.rename(folder / f"{RUNS}.{kind}").name}
    steps = (row for run in sweep.runs for row in _step_rows(run))
    held_out = ({"run_id": run.record.run_id, **row} for run in sweep.runs for row in loss_rows(run.record))
    for name, rows, columns in ((STEPS, steps, STEP_COLUMNS), (HELD_OUT, held_out, HELD_OUT_COLUMNS)):
        if first := next(rows, None):
            names[name] = f"{name}.{kind}"
            write_rows(chain([first], rows), columns, folder / names[name])
    details = {run.record.run_id: _details(run) for run in sweep.runs}
    (folder / "requests.json").write_text(json.dumps(details, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(dataset_card(sweep, names), encoding="utf-8")
    return [*names.values(), "requests.json", "README.md"]


def _run_row(run: RunFacts) -> dict[str, Any]:
    estimate = run.estimate
    return summary_row(run.record) | {
        "base": run.base_model,
        "data": data_label(run.record.request),
        "estimated_memory_bytes": estimate and estimate.memory_bytes.expected,
        "estimated_train_seconds": estimate.seconds.expected if estimate and estimate.seconds else None,
    }


def _step_rows(run: RunFacts) -> Iterator[Mapping[str, Any]]:
    record = run.record
    for step in record.steps:
        yield {
            "run_id": record.run_id,
            "r": record.request.r,
            "learning_rate": record.request.learning_rate,
            "seed": record.request.seed,
            "step": step.step,
            "loss": step.loss,
            "step_learning_rate": step.learning_rate,
            "tokens": step.tokens,
            "seconds": step.seconds,
            "memory_bytes": step.memory_bytes,
        }


def _details(run: RunFacts) -> Mapping[str, Any]:
    return {"request": public_request(run), "environment": public_environment(run.record)}


DATASET, ADAPTER, TRACKIO = "hub-dataset", "hub-adapter", "trackio"
KINDS = (DATASET, ADAPTER, TRACKIO)
PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
"""Of a Trackio project: the characters that Trackio keeps in the name of its file."""
TOKEN = re.compile(r"[!-~]{8,500}")


@dataclass(frozen=True, slots=True)
class Token:
    """A Hugging Face access token. It is shown nowhere, also not where an object that holds it is printed."""

    value: str

    def __repr__(self) -> str:
        return "Token(...)"

    def validate(self) -> None:
        """InvalidSettingError, which does not repeat it, where it can be none."""
        if not TOKEN.fullmatch(self.value):
            raise InvalidSettingError(
                "This is not a Hugging Face token: it has 8 to 500 letters, digits and signs, without spaces."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Of what is published."""

    to: str
    """hub-dataset, hub-adapter or trackio."""
    name: str
    """Of the repository, owner/name; of the project in Trackio."""
    public: bool = False
    """Whether everybody may see a repository or Space that is made for it."""
    space: str = ""
    """Of Trackio, owner/name; empty for Trackio on this machine."""
    base_model: str = ""
    """The Hub id of the base, where it was trained from a folder."""

    def validate(self) -> None:
        """InvalidSettingError names what cannot be."""
        one_of(self.to, "Where to publish", KINDS)
        if self.to == TRACKIO:
            if not PROJECT.fullmatch(self.name):
                raise InvalidSettingError(
                    f"A Trackio project has at most 80 letters, digits, - and _ (got {quoted(self.name)})."
                )
        elif not is_hub_id(self.name):
            raise InvalidSettingError(f"The repository must be owner/name (got {quoted(self.name)}).")
        if self.space and self.to != TRACKIO:
            raise InvalidSettingError("A Space is for Trackio: leave it empty for a repository.")
        if self.space and not is_hub_id(self.space):
            raise InvalidSettingError(f"The Space must be owner/name (got {quoted(self.space)}).")
        if self.base_model and not is_hub_id(self.base_model):
            raise InvalidSettingError(
                f"The base model must be owner/name, as on the Hub (got {quoted(self.base_model)})."
            )

    @property
    def needs_token(self) -> bool:
        """Whether it leaves this machine."""
        return self.to != TRACKIO or bool(self.space)
