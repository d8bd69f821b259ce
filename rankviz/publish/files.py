"""Files of a published adapter, or of a sweep published as a dataset, with their cards; and the data that Trackio
gets."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from rankviz import __version__, installed, units
from rankviz.catalog import models
from rankviz.core.bounds import printable
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import WARMUP_STEPS_SHARE, RunRequest
from rankviz.core.runs.run_time import Spent
from rankviz.errors import BadAdapterError, InvalidSettingError
from rankviz.exports.tables import LIBRARIES, Table, write_rows, write_table
from rankviz.paths import ASSETS, is_hub_id
from rankviz.references import EMBEDDED, EMBEDDED_ID
from rankviz.store.transfer import LOSS_COLUMNS, loss_rows, summary_row


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFacts:
    """The runs of a sweep to publish, and the results of the whole sweep.

    base_model: Hub id of the base. estimates: by run id; empty where the base is not available. verdict: sentences, the
    most important first; empty where there is no verdict. all_runs: all runs of the sweep, which the verdict is on.
    spent: cost of all attempts of all runs, without a spending limit.
    """

    sweep_id: str
    base_model: str
    runs: Sequence[RunRecord]
    estimates: Mapping[str, RunEstimate | None] = field(default_factory=dict)
    verdict: Sequence[str] = ()
    all_runs: Sequence[RunRecord] = ()
    spent: Spent = field(default_factory=Spent)

    @property
    def data(self) -> str:
        """Name of the sample, or of the data file without its folder."""
        return Path(self.runs[0].request.data).name

    @property
    def cost(self) -> Mapping[str, float | bool | None]:
        """Cost of the whole sweep: machine seconds of all attempts, and US dollars of rented machines. None is unknown
        or no cost; where is_whole is False the value is a lower bound."""
        spent = self.spent
        return {
            "sweep_device_seconds": spent.device_seconds or None,
            "sweep_device_seconds_is_whole": spent.device_seconds_is_whole,
            "sweep_usd": spent.usd if spent.usd_in_words else None,
            "sweep_usd_is_whole": spent.usd_is_whole,
        }

    def row(self, run: RunRecord) -> dict[str, Any]:
        """Return a run's row: settings, measurements, estimates and the cost of the sweep, without paths."""
        estimate = self.estimates.get(run.run_id)
        return {
            **summary_row(run),
            "base": self.base_model,
            "data": self.data,
            "estimated_memory_bytes": estimate and estimate.memory_bytes.expected,
            "estimated_train_seconds": estimate.seconds.expected if estimate and estimate.seconds else None,
            **self.cost,
        }


def known_base(base: str) -> str:
    """Return the Hub id of a base; empty for a folder."""
    if base == EMBEDDED:
        return EMBEDDED_ID
    rows = models.load_index(ASSETS)
    if models.is_known(rows, base):
        return models.full_name(rows, base)
    return base if is_hub_id(base) else ""


def hub_base(request: RunRequest, given: str = "") -> str:
    """Return the Hub id of a run's base. given: Hub id for a base that is a folder. Raise InvalidSettingError where it
    is missing, or contradicts the base that the run was trained from."""
    known = known_base(request.base)
    if known and given and known_base(given) != known:
        raise InvalidSettingError(f"This run was trained from {known}, not from {given}: leave the base model out.")
    if base := known or given:
        return base
    raise InvalidSettingError(
        "The base of this run is a folder, and others need its id on the Hub: give the base model as owner/name."
    )


MARKS = "\\`*_{}[]<>|#&~"
"""Characters that Markdown or HTML would not show as plain text."""
ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""Places for a space in a web address, so that Markdown does not make it a link."""


class Markdown(str):
    """Text whose Markdown marks are intended, so it is not escaped. User input must be escaped before it is added."""


def _card(sweep: SweepFacts, runs: Sequence[RunRecord], front: Mapping[str, Any], **values: Any) -> str:
    """Return the card (a README.md) from its template, which escapes every value that is not Markdown."""
    from rankviz.exports.script import templates

    own = templates().overlay(finalize=_marked)
    own.filters = own.filters | {"meant": Markdown}
    values = {"files": {}, "adapter": (), "cost": (), "quality": ()} | values
    costs = (
        ("Machine time of the whole sweep, all attempts", sweep.spent.time_in_words),
        (
            "Rented machines, for the whole sweep",
            (sweep.spent.usd_in_words or units.NOT_KNOWN) if sweep.spent.is_rented else "",
        ),
    )
    return own.get_template("card.md.jinja").render(
        # JSON is YAML, and quotes what YAML would read otherwise.
        front={name: json.dumps(value, ensure_ascii=False) for name, value in front.items()},
        verdict=list(sweep.verdict)
        or ["There is no verdict: this sweep has no other rank to compare with, or its losses do not allow one."],
        measured=[*measured(sweep), *_devices(runs)],
        **values | {"cost": [*values["cost"], *(cost for cost in costs if cost[1])]},
    )


def dataset_card(sweep: SweepFacts, tables: Mapping[str, str]) -> str:
    """Return the README.md of a dataset. tables: file name of each table, by its name."""
    ranks, data = _listed(sorted({run.request.r for run in sweep.runs})), printable(sweep.data)
    front = {
        "pretty_name": f"LoRA ranks {ranks} on {data}",
        "tags": ["rankviz", "lora", "peft"],
        "configs": [{"config_name": name, "data_files": file} for name, file in tables.items()],
    }
    lead = f"{units.counted(len(sweep.runs), 'run')} of {sweep.base_model} with LoRA, r = {ranks}, trained on {data}"
    lead += f" with RankViz {_versions(sweep.runs)}."
    return _card(sweep, sweep.runs, front, title=f"LoRA rank sweep {sweep.sweep_id}", lead=lead, files=tables)


def model_card(run: RunRecord, sweep: SweepFacts, *, adapter_bytes: int, targets: Any) -> str:
    """Return the README.md of an adapter. targets: target_modules from its adapter_config.json."""
    lora, done, estimate = run.request.lora, run.completed, sweep.estimates.get(run.run_id)
    named = ", ".join(map(str, targets)) if isinstance(targets, list | tuple) else str(targets or lora.target_modules)
    adapter = {
        "Rank r": str(lora.r),
        "lora_alpha": f"{lora.lora_alpha:g}",
        "Learning rate": f"{run.request.learning_rate:g}",
        "Seed": str(run.request.seed),
        "Target modules": named,
        "Variant": ", ".join(lora.variants),
        "Trainable parameters": "" if run.trainable_parameters is None else f"{run.trainable_parameters:,}",
        "File": f"{adapter_bytes:,} bytes",
    }
    cost: dict[str, str] = {}
    if done:
        cost["Training time, measured"] = units.duration(done.train_seconds)
        cost[f"Peak memory, measured ({done.peak_memory_kind})"] = units.memory_size(done.peak_memory_bytes)
    if estimate:
        cost["Training time, estimated"] = units.time_span(estimate.seconds) if estimate.seconds else ""
        cost[f"Peak memory, estimated ({estimate.memory_kind})"] = units.memory_span(estimate.memory_bytes)
    losses = {"of the base": run.loss_before, "after training": run.loss_after}
    front = {
        "base_model": sweep.base_model,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "tags": ["lora", "peft", "unsloth", "rankviz"],
    }
    return _card(
        sweep,
        [run],
        front,
        title=f"LoRA adapter of {sweep.base_model}, r = {lora.r}",
        lead=f"Trained on {printable(sweep.data)} for {units.counted(run.steps_done, 'step')} with RankViz "
        f"{_versions([run])}.",
        adapter=[fact for fact in adapter.items() if fact[1]],
        cost=[fact for fact in cost.items() if fact[1]],
        quality=[(f"Held-out loss {when}", f"{each.loss:.4f} nats per token") for when, each in losses.items() if each],
        base_model=sweep.base_model,
    )


def measured(sweep: SweepFacts) -> Sequence[str]:
    """Return sentences on how the losses of a sweep were measured: seeds, held-out examples, learning rate, steps."""
    records = [run for run in sweep.all_runs if run.loss_after] or sweep.runs
    first = records[0].request
    seeds = sorted({run.request.seed for run in records})
    rates = sorted({run.request.learning_rate for run in records})
    examples = next((run.loss_after.examples for run in records if run.loss_after), first.held_out_examples)
    several = len({run.request.r for run in records}) > 1
    tuned = f"{rates[0]:g} at every rank, not tuned by rank." if several else f"{rates[0]:g}, not tuned."
    if len(rates) > 1:
        tuned = f"{_listed(rates)} were tried; each rank is judged at its best one."
    return [
        f"Seeds: {_listed(seeds)}." + ("" if len(seeds) > 1 else " With one, the noise between runs is not known."),
        f"Held-out examples: {examples:,}, the same for all runs; the loss is the mean in nats per target token.",
        f"Learning rate: {tuned} Linear warm-up over {WARMUP_STEPS_SHARE:.0%} of the steps, then linear decay to 0.",
        f"Steps: {first.max_steps:,}; batch {first.training.per_device_train_batch_size}, accumulation "
        f"{first.training.gradient_accumulation_steps}; at most {first.training.max_length:,} tokens per example.",
    ]


def _devices(runs: Iterable[RunRecord]) -> Iterable[str]:
    """Return sentences on each different device and its software."""
    sentences: dict[str, None] = {}
    for where in (run.environment for run in runs if run.environment):
        device, precision = (where.get(name) or "not known" for name in ("device_name", "precision"))
        sentences[f"Device: {device}; precision {precision}."] = None
        versions = where.get("versions") or {}
        if known := [f"{name} {versions[name]}" for name in LIBRARIES if versions.get(name)]:
            sentences[f"Software: {', '.join(known)}."] = None
    return sentences


def _versions(runs: Iterable[RunRecord]) -> str:
    return _listed(dict.fromkeys(run.environment.get("rankviz") or __version__ for run in runs))


def _marked(value: Any) -> Markdown:
    """Return a text escaped as one line of Markdown that shows it unchanged, except for web addresses."""
    if isinstance(value, Markdown):
        return value
    line = ADDRESS.sub(" ", " ".join(str(value).split()))
    for mark in MARKS:
        line = line.replace(mark, f"\\{mark}")
    return Markdown(printable(line, len(line)))


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MAX_CONFIG_BYTES = 4_000_000


def write_adapter(run: RunRecord, sweep: SweepFacts, weights: Path, config: Path, folder: Path) -> None:
    """Write the adapter's configuration and card into a folder and link its weights. weights, config: files that the
    run saved. The configuration gets the Hub id of the base; any other path in it becomes null."""
    with config.open("rb") as stream:
        data = stream.read(MAX_CONFIG_BYTES)
    try:
        settings = {
            name: None if isinstance(value, str) and value.startswith(("/", "~/", "\\")) else value
            for name, value in json.loads(data).items()
        }
    except (ValueError, RecursionError, AttributeError):
        raise BadAdapterError(f"{CONFIG} of this run cannot be read.") from None
    settings["base_model_name_or_path"] = sweep.base_model
    (folder / CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    os.symlink(weights, folder / WEIGHTS)
    card = model_card(run, sweep, adapter_bytes=weights.stat().st_size, targets=settings.get("target_modules"))
    (folder / "README.md").write_text(card, encoding="utf-8")


RUNS, STEPS, HELD_OUT = "runs", "losses_by_step", "held_out_losses"
STEP_VALUES = {"step": int, "loss": float, "learning_rate": float, "tokens": int, "seconds": float, "memory_bytes": int}
STEP_COLUMNS = {
    **{"run_id": str, "r": int, "learning_rate": float, "seed": int},
    **{"step_learning_rate" if name == "learning_rate" else name: kind for name, kind in STEP_VALUES.items()},
}


def write_dataset(sweep: SweepFacts, folder: Path) -> None:
    """Write the files of a sweep's dataset into a folder. Tables are Parquet, or CSV without pyarrow. Only one run's
    steps and examples are in memory at a time."""
    kind = "parquet" if installed.has("pyarrow") else "csv"
    runs = write_table(Table(name=RUNS, rows=[sweep.row(run) for run in sweep.runs]), kind, folder)
    names = {RUNS: runs.rename(folder / f"{RUNS}.{kind}").name}
    steps = (
        dict(zip(STEP_COLUMNS, (*settings, *(getattr(step, name) for name in STEP_VALUES)), strict=True))
        for run in sweep.runs
        for settings in [(run.run_id, run.request.r, run.request.learning_rate, run.request.seed)]
        for step in run.steps
    )
    held_out = ({"run_id": run.run_id, **row} for run in sweep.runs for row in loss_rows(run))
    for name, rows, columns in ((STEPS, steps, STEP_COLUMNS), (HELD_OUT, held_out, {"run_id": str, **LOSS_COLUMNS})):
        if first := next(rows, None):
            names[name] = f"{name}.{kind}"
            write_rows(chain([first], rows), columns, folder / names[name])
    own = {"base": sweep.base_model, "data": sweep.data}
    requests = {run.run_id: {"request": {**asdict(run.request), **own}} for run in sweep.runs}
    (folder / "requests.json").write_text(json.dumps(requests, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(dataset_card(sweep, names), encoding="utf-8")


def trackio_steps(run: RunRecord) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yield metrics with their step: the base's evaluation at 0, each training step, the final one at the last."""
    by_step: dict[int, dict[str, float]] = {}
    for step in run.steps:
        values = {f"train/{name}": getattr(step, name) for name in STEP_VALUES if name not in ("step", "memory_bytes")}
        by_step[step.step] = values | {"memory/bytes": step.memory_bytes}
    for at, held_out in ((0, run.loss_before), (run.steps_done, run.loss_after)):
        values = {name: getattr(held_out, name, None) for name in ("loss", "token_accuracy", "exact_match")}
        known = {f"eval/{name}": value for name, value in values.items() if value is not None}
        by_step.setdefault(at, {}).update(known)
    if run.completed:
        by_step.setdefault(run.steps_done, {})["memory/peak_bytes"] = run.completed.peak_memory_bytes
    yield from sorted((step, values) for step, values in by_step.items() if values)
