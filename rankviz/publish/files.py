"""Files that are published (an adapter, or a sweep as a dataset), their cards, and the place they are published to."""

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
from rankviz.core.bounds import one_of, printable
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import WARMUP_STEPS_SHARE, RunRequest
from rankviz.core.runs.run_time import DeviceTime, Rent
from rankviz.errors import BadAdapterError, InvalidSettingError, quoted
from rankviz.exports.tables import Table, write_rows, write_table
from rankviz.paths import ASSETS, is_hub_id
from rankviz.references import EMBEDDED, EMBEDDED_ID
from rankviz.store.transfer import LOSS_COLUMNS, loss_rows, summary_row

LEFT_OUT = ("loaded_from",)
"""Keys of the environment that are not published: loaded_from may name a private folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """A run and what is published with it. base_model: its Hub id. estimate: None where the base is not available."""

    record: RunRecord
    base_model: str
    estimate: RunEstimate | None = None

    @property
    def estimated(self) -> dict[str, Any]:
        """Estimated memory in bytes and training time in seconds, as columns of a table."""
        estimate = self.estimate
        return {
            "estimated_memory_bytes": estimate and estimate.memory_bytes.expected,
            "estimated_train_seconds": estimate.seconds.expected if estimate and estimate.seconds else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFacts:
    """The runs to publish, and the results of their whole sweep.

    id: the sweep or run that the user named. verdict: sentences, the most important first; empty where there is no
    verdict. all_runs: all runs of the sweep, which the verdict is on. time: machine time of all attempts of all runs.
    rent: cost of all machines that the sweep rented, without a spending limit; None where it rented no machine.
    """

    id: str
    sweep_id: str
    runs: Sequence[RunFacts]
    verdict: Sequence[str] = ()
    all_runs: Sequence[RunRecord] = field(default_factory=tuple)
    time: DeviceTime = field(default_factory=DeviceTime)
    rent: Rent | None = None

    @property
    def cost_in_words(self) -> Iterator[tuple[str, str]]:
        """Name and value of each known cost of the whole sweep."""
        if self.time.in_words:
            yield "Machine time of the whole sweep, all attempts", self.time.in_words
        if self.rent:
            yield "Rented machines, for the whole sweep", self.rent.in_words or units.NOT_KNOWN

    @property
    def cost(self) -> Mapping[str, float | bool | None]:
        """Cost of the whole sweep: machine seconds of all attempts, and US dollars of rented machines. None is unknown
        or no cost; where is_whole is False the value is a lower bound."""
        rent = self.rent or Rent(usd=None, is_whole=True, limit_usd=None)
        return {
            "sweep_device_seconds": self.time.seconds or None,
            "sweep_device_seconds_is_whole": self.time.is_whole,
            "sweep_usd": rent.usd if rent.in_words else None,
            "sweep_usd_is_whole": rent.is_whole,
        }


def known_base(request: RunRequest) -> str:
    """Return the Hub id of a run's base; empty where the run was trained from a folder."""
    return _hub_id(request.base)


def _hub_id(base: str) -> str:
    if base == EMBEDDED:
        return EMBEDDED_ID
    rows = models.load_index(ASSETS)
    if models.is_known(rows, base):
        return models.full_name(rows, base)
    return base if is_hub_id(base) else ""


def hub_base(request: RunRequest, given: str = "") -> str:
    """Return the Hub id of a run's base; raise InvalidSettingError where a folder has no given id, or where the given
    id contradicts the base that the run was trained from."""
    known = known_base(request)
    if known and given and _hub_id(given) != known:
        raise InvalidSettingError(f"This run was trained from {known}, not from {given}: leave the base model out.")
    if base := known or given:
        return base
    raise InvalidSettingError(
        "The base of this run is a folder, and others need its id on the Hub: give the base model as owner/name."
    )


def data_label(request: RunRequest) -> str:
    """Return the name of the sample, or of the data file without its folder."""
    return Path(request.data).name


def public_request(run: RunFacts) -> Mapping[str, Any]:
    """Return the request as JSON, with the base's Hub id and without paths of the machine."""
    return {**asdict(run.record.request), "base": run.base_model, "data": data_label(run.record.request)}


def public_environment(record: RunRecord) -> Mapping[str, Any]:
    """Return the environment of a run without paths of the machine."""
    return without_paths({name: value for name, value in record.environment.items() if name not in LEFT_OUT})


def without_paths(value: Any) -> Any:
    """Return the value with each text that is a path reduced to its last part, at any depth."""
    if isinstance(value, Mapping):
        return {str(name): without_paths(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(each) for each in value]
    if _is_path(value):
        return Path(value).name
    return value


Fact = tuple[str, str]
MARKS = "\\`*_{}[]<>|#&~"
"""Characters that Markdown or HTML would not show as plain text."""
ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""Places for a space in a web address, so that Markdown does not make it a link."""
LIBRARIES = ("unsloth", "peft", "trl", "transformers", "torch")
NO_VERDICT = "There is no verdict: this sweep has no other rank to compare with, or its losses do not allow one."


class Markdown(str):
    """Text with intended Markdown marks, which is not escaped. User input must be escaped before it is put in."""


def _card(front: Mapping[str, Any], **values: Any) -> str:
    """Return a card from its template, which escapes every value that is not Markdown."""
    from rankviz.exports.words import templates

    own = templates().overlay(finalize=_marked)
    own.filters = own.filters | {"meant": Markdown}
    # JSON is YAML, and quotes what YAML would read otherwise.
    lines = {name: json.dumps(value, ensure_ascii=False) for name, value in front.items()}
    return own.get_template("card.md.jinja").render(front=lines, **values)


def dataset_card(sweep: SweepFacts, tables: Mapping[str, str]) -> str:
    """Return the README.md of a dataset. tables: file name of each table, by its name."""
    records = [run.record for run in sweep.runs]
    bases = _listed(dict.fromkeys(run.base_model for run in sweep.runs))
    ranks, data = _listed(sorted({record.request.r for record in records})), _data(sweep)
    return _card(
        {
            "pretty_name": f"LoRA ranks {ranks} on {data}",
            "tags": ["rankviz", "lora", "peft"],
            "configs": [{"config_name": name, "data_files": file} for name, file in tables.items()],
        },
        title=f"LoRA rank sweep {sweep.id}",
        lead=f"{units.counted(len(sweep.runs), 'run')} of {bases} with LoRA, r = {ranks}, trained on {data} with "
        f"RankViz {_versions(records)}.",
        files=tables,
        adapter=(),
        cost=list(sweep.cost_in_words),
        verdict=list(sweep.verdict) or [NO_VERDICT],
        measured=[*measured(sweep), *_where(records)],
    )


def model_card(run: RunFacts, sweep: SweepFacts, *, file_bytes: int, targets: Any) -> str:
    """Return the README.md of an adapter. targets: target_modules from its adapter_config.json."""
    record = run.record
    return _card(
        {
            "base_model": run.base_model,
            "base_model_relation": "adapter",
            "library_name": "peft",
            "tags": ["lora", "peft", "unsloth", "rankviz"],
        },
        title=f"LoRA adapter of {run.base_model}, r = {record.request.r}",
        lead=f"Trained on {_data(sweep)} for {units.counted(record.steps_done, 'step')} with RankViz "
        f"{_versions([record])}.",
        files={},
        adapter=list(_adapter(record, file_bytes, targets)),
        cost=[*_cost(run), *sweep.cost_in_words],
        quality=list(_quality(record)),
        verdict=list(sweep.verdict) or [NO_VERDICT],
        measured=[*measured(sweep), *_where([record])],
        base_model=run.base_model,
    )


def measured(sweep: SweepFacts) -> Sequence[str]:
    """Return sentences on how the losses of a sweep were measured: seeds, held-out examples, learning rate, steps."""
    records = [run for run in sweep.all_runs if run.loss_after] or [run.record for run in sweep.runs]
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


def _versions(records: Iterable[RunRecord]) -> str:
    return _listed(dict.fromkeys(run.environment.get("rankviz") or __version__ for run in records))


def _where(records: Iterable[RunRecord]) -> Iterable[str]:
    """Return sentences on each different device, its software and its fingerprints."""
    sentences: dict[str, None] = {}
    for where in (run.environment for run in records if run.environment):
        device, precision = where.get("device_name") or "not known", where.get("precision") or "not known"
        sentences[f"Device: {device}; precision {precision}."] = None
        versions = where.get("versions") or {}
        if known := [f"{name} {versions[name]}" for name in LIBRARIES if versions.get(name)]:
            sentences[f"Software: {', '.join(known)}."] = None
        if data := where.get("data_fingerprint"):
            base = where.get("model_fingerprint") or "not known"
            sentences[f"Fingerprints: data {data}, base {base}."] = None
    return sentences


def _adapter(record: RunRecord, file_bytes: int, targets: Any) -> Iterable[Fact]:
    lora, parameters = record.request.lora, record.trainable_parameters
    named = ", ".join(map(str, targets)) if isinstance(targets, list | tuple) else str(targets or lora.target_modules)
    facts = {
        "Rank r": str(lora.r),
        "lora_alpha": f"{lora.lora_alpha:g}",
        "Learning rate": f"{record.request.learning_rate:g}",
        "Seed": str(record.request.seed),
        "Target modules": named,
        "Variant": ", ".join(lora.variants),
        "Trainable parameters": "" if parameters is None else f"{parameters:,}",
        "File": f"{file_bytes:,} bytes",
    }
    return [(name, value) for name, value in facts.items() if value]


def _cost(run: RunFacts) -> Iterable[Fact]:
    if done := run.record.completed:
        yield "Training time, measured", units.duration(done.train_seconds)
        yield f"Peak memory, measured ({done.peak_memory_kind})", units.memory_size(done.peak_memory_bytes)
    if estimate := run.estimate:
        if estimate.seconds:
            yield "Training time, estimated", units.time_span(estimate.seconds)
        yield f"Peak memory, estimated ({estimate.memory_kind})", units.memory_span(estimate.memory_bytes)


def _quality(record: RunRecord) -> Iterable[Fact]:
    for when, held_out in (("of the base", record.loss_before), ("after training", record.loss_after)):
        if held_out:
            yield f"Held-out loss {when}", f"{held_out.loss:.4f} nats per token"
            if held_out.token_accuracy is not None:
                yield f"Token accuracy {when}", f"{100 * held_out.token_accuracy:.1f} %"


def _data(sweep: SweepFacts) -> str:
    return printable(data_label(sweep.runs[0].record.request))


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


def write_adapter(run: RunFacts, sweep: SweepFacts, weights: Path, config: Path, folder: Path) -> Sequence[str]:
    """Write the adapter's configuration and card into a folder and link its weights; return the file names. weights,
    config: files that the run saved."""
    settings = public_config(_read(config), run.base_model)
    (folder / CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    os.symlink(weights, folder / WEIGHTS)
    card = model_card(run, sweep, file_bytes=weights.stat().st_size, targets=settings.get("target_modules"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return [WEIGHTS, CONFIG, "README.md"]


def public_config(settings: Mapping[str, Any], base_model: str) -> Mapping[str, Any]:
    """Return PEFT's configuration with the Hub id of the base; any other path in it becomes null."""
    known = {name: None if _is_path(value) else value for name, value in settings.items()}
    return known | {"base_model_name_or_path": base_model}


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~/", "\\"))


def _read(config: Path) -> Mapping[str, Any]:
    with config.open("rb") as stream:
        data = stream.read(MAX_CONFIG_BYTES)
    try:
        settings = json.loads(data)
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
    """Write the files of a sweep's dataset into a folder; return their names. Tables are Parquet, or CSV without
    pyarrow. Only one run's steps and examples are in memory at a time."""
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
    own = {"base": run.base_model, "data": data_label(run.record.request)}
    return summary_row(run.record) | own | run.estimated


def _step_rows(run: RunFacts) -> Iterator[Mapping[str, Any]]:
    request = run.record.request
    settings = run.record.run_id, request.r, request.learning_rate, request.seed
    for step in run.record.steps:
        values = step.step, step.loss, step.learning_rate, step.tokens, step.seconds, step.memory_bytes
        yield dict(zip(STEP_COLUMNS, (*settings, *values), strict=True))


def _details(run: RunFacts) -> Mapping[str, Any]:
    return {"request": public_request(run), "environment": public_environment(run.record)}


DATASET, ADAPTER, TRACKIO = "hub-dataset", "hub-adapter", "trackio"
KINDS = (DATASET, ADAPTER, TRACKIO)
PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
"""Pattern of a Trackio project's name: characters that Trackio keeps in the name of its file."""
TOKEN = re.compile(r"[!-~]{8,500}")


@dataclass(frozen=True, slots=True)
class Token:
    """A Hugging Face access token. Its value is never printed, not even inside another object's repr."""

    value: str

    def __repr__(self) -> str:
        return "Token(...)"

    def validate(self) -> None:
        """Check that the text can be a token; raise InvalidSettingError, which does not repeat it, otherwise."""
        if not TOKEN.fullmatch(self.value):
            raise InvalidSettingError(
                "This is not a Hugging Face token: it has 8 to 500 letters, digits and signs, without spaces."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """The place that a run or sweep is published to.

    to: hub-dataset, hub-adapter or trackio. name: the repository as owner/name, or the Trackio project. public: True
    where everybody may see a repository or Space that is created. space: owner/name of a Space for Trackio; empty for
    Trackio on this machine. base_model: Hub id of the base, for a run that was trained from a folder.
    """

    to: str
    name: str
    public: bool = False
    space: str = ""
    base_model: str = ""

    def validate(self) -> None:
        """Check the fields; raise InvalidSettingError for the first field that is not possible."""
        one_of(self.to, "Where to publish", KINDS)
        if self.to == TRACKIO and not PROJECT.fullmatch(self.name):
            raise InvalidSettingError(
                f"A Trackio project has at most 80 letters, digits, - and _ (got {quoted(self.name)})."
            )
        if self.space and self.to != TRACKIO:
            raise InvalidSettingError("A Space is for Trackio: leave it empty for a repository.")
        names = {"The Space": self.space, "The base model": self.base_model}
        if self.to != TRACKIO:
            names = {"The repository": self.name or "nothing"} | names
        for what, name in names.items():
            if name and not is_hub_id(name):
                raise InvalidSettingError(f"{what} must be owner/name, as on the Hub (got {quoted(name)}).")

    @property
    def needs_token(self) -> bool:
        """True where the data leaves this machine."""
        return self.to != TRACKIO or bool(self.space)
