"""The cards of what is published: what is known of a run and of a sweep, as far as others may know it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rankviz import __version__, units
from rankviz.catalog import models
from rankviz.core.bounds import printable
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.events import Environment
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import WARMUP_STEPS_SHARE, RunRequest
from rankviz.core.runs.run_time import DeviceTime, Rent
from rankviz.errors import InvalidSettingError
from rankviz.paths import ASSETS, is_hub_id
from rankviz.references import EMBEDDED, EMBEDDED_ID

LEFT_OUT = ("loaded_from",)
"""Of the environment: it may be the name of a private folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """A run with what stands beside it."""

    record: RunRecord
    base_model: str
    """Its Hub id."""
    estimate: RunEstimate | None = None
    """None where the base is not available."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFacts:
    """The runs that are published, and what the whole sweep says."""

    id: str
    """Of the sweep or the run that was named."""
    sweep_id: str
    runs: Sequence[RunFacts]
    verdict: Sequence[str] = ()
    """In sentences, the most important first; empty where there is none."""
    all_runs: Sequence[RunRecord] = field(default_factory=tuple)
    """Of the sweep, which the verdict is on."""
    time: DeviceTime = field(default_factory=DeviceTime)
    """Of machines, over all attempts of all runs of the sweep."""
    rent: Rent | None = None
    """Of the machines that the whole sweep has rented, without a spending limit; None where it rented none."""

    @property
    def cost_in_words(self) -> Iterator[tuple[str, str]]:
        """Name and value."""
        if self.time.in_words:
            yield "Machine time of the whole sweep, all attempts", self.time.in_words
        if self.rent:
            yield "Rented machines, for the whole sweep", self.rent.in_words or units.NOT_KNOWN

    @property
    def cost(self) -> Mapping[str, float | bool | None]:
        """Of the whole sweep: seconds of machines over all attempts, and US dollars of rented ones, None where there
        were none or it is not known. What is not whole is at least so much."""
        rent = self.rent or Rent(usd=None, is_whole=True, limit_usd=None)
        return {
            "sweep_device_seconds": self.time.seconds or None,
            "sweep_device_seconds_is_whole": self.time.is_whole,
            "sweep_usd": rent.usd if rent.in_words else None,
            "sweep_usd_is_whole": rent.is_whole,
        }


def known_base(request: RunRequest) -> str:
    """The Hub id of a run's base; empty where it was trained from a folder."""
    return _hub_id(request.base)


def hub_base(request: RunRequest, given: str = "") -> str:
    """The Hub id of a run's base. InvalidSettingError where it was trained from a folder and no id is given, or from
    another base than the given one."""
    known = known_base(request)
    if known and given and _hub_id(given) != known:
        raise InvalidSettingError(f"This run was trained from {known}, not from {given}: leave the base model out.")
    if base := known or given:
        return base
    raise InvalidSettingError(
        "The base of this run is a folder, and others need its id on the Hub: give the base model as owner/name."
    )


def _hub_id(base: str) -> str:
    """Of the embedded base, one of the catalogue by any of its names, or any other on the Hub; empty of a folder."""
    if base == EMBEDDED:
        return EMBEDDED_ID
    rows = models.load_index(ASSETS)
    if models.is_known(rows, base):
        return models.full_name(rows, base)
    return base if is_hub_id(base) else ""


def data_label(request: RunRequest) -> str:
    """A sample's name, or a file's name without its folder."""
    return Path(request.data).name


def public_request(run: RunFacts) -> Mapping[str, Any]:
    """The request as JSON, with the base's Hub id and without a path of the machine."""
    return {**asdict(run.record.request), "base": run.base_model, "data": data_label(run.record.request)}


def public_environment(record: RunRecord) -> Mapping[str, Any]:
    """Where it ran, without a path of the machine."""
    return without_paths({name: value for name, value in record.environment.items() if name not in LEFT_OUT})


def without_paths(value: Any) -> Any:
    """The same with only the last part of each text that is a path."""
    if isinstance(value, Mapping):
        return {str(name): without_paths(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(each) for each in value]
    if isinstance(value, str) and value.startswith(("/", "~/", "\\")):
        return Path(value).name
    return value


Fact = tuple[str, str]
MARKS = "\\`*_{}[]<>|#&~"
"""What Markdown or HTML would take for more than text."""
ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""Where a space keeps readers of Markdown from making a link of an address."""
LIBRARIES = ("unsloth", "peft", "trl", "transformers", "torch")
NO_VERDICT = "There is no verdict: this sweep has no other rank to compare with, or its losses do not allow one."


class Markdown(str):
    """Text whose marks are meant. No word of others is in it as it came."""


def dataset_card(sweep: SweepFacts, tables: Mapping[str, str]) -> str:
    """README.md of a dataset. tables: the file of each table by its name."""
    configs = [{"config_name": name, "data_files": file} for name, file in tables.items()]
    records = [run.record for run in sweep.runs]
    bases = dict.fromkeys(run.base_model for run in sweep.runs)
    ranks = sorted({record.request.r for record in records})
    front = {"pretty_name": f"LoRA ranks {_listed(ranks)} on {_data(sweep)}", "tags": ["rankviz", "lora", "peft"]}
    columns = Markdown(
        "run_id joins the tables. A held-out loss is in nats per target token. Memory is what the run itself measured; "
        "summary columns that start with estimated_ are RankViz's estimates beside it. Those that start with sweep_ "
        "are of the whole sweep, the same in each row: its cost, which is at least so much where is_whole is false."
    )
    files = Markdown("\n".join(f"- `{file}`: {name.replace('_', ' ')}" for name, file in tables.items()))
    return _card(
        front | {"configs": configs},
        f"LoRA rank sweep {sweep.id}",
        f"{units.counted(len(sweep.runs), 'run')} of {_listed(bases)} with LoRA, r = {_listed(ranks)}, trained on "
        f"{_data(sweep)} with RankViz {_versions(records)}.",
        _section("Files", files, columns),
        _section("Cost", _table(sweep.cost_in_words)),
        _section("Verdict", *_verdict(sweep)),
        _section("How it was measured", _bullets([*measured(sweep), *_where(records)])),
    )


def model_card(run: RunFacts, sweep: SweepFacts, *, file_bytes: int, targets: Any) -> str:
    """README.md of an adapter. targets: as its configuration has them."""
    request = run.record.request
    front = {
        "base_model": run.base_model,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "tags": ["lora", "peft", "unsloth", "rankviz"],
    }
    title = f"LoRA adapter of {run.base_model}, r = {request.r}"
    return _card(
        front,
        title,
        f"Trained on {_data(sweep)} for {units.counted(run.record.steps_done, 'step')} with RankViz "
        f"{_versions([run.record])}.",
        _section("Adapter", _table(_adapter(run.record, file_bytes, targets))),
        _section("Cost", _table([*_cost(run), *sweep.cost_in_words])),
        _section("Quality", _table(_quality(run.record))),
        _section("Verdict on the sweep", *_verdict(sweep)),
        _section("How it was measured", _bullets([*measured(sweep), *_where([run.record])])),
        _section("Use", _usage(run.base_model)),
    )


def measured(sweep: SweepFacts) -> Sequence[str]:
    """How the numbers of a sweep came about, in sentences: those of its runs that have a loss."""
    records = [run for run in sweep.all_runs if run.loss_after] or [run.record for run in sweep.runs]
    first = records[0].request
    seeds, rates = _values(run.request.seed for run in records), _values(run.request.learning_rate for run in records)
    ranks = {run.request.r for run in records}
    examples = next((run.loss_after.examples for run in records if run.loss_after), first.held_out_examples)
    return [
        f"Seeds: {_listed(seeds)}." + ("" if len(seeds) > 1 else " With one, the noise between runs is not known."),
        f"Held-out examples: {examples:,}, the same for all runs; the loss is the mean in nats per target token.",
        f"Learning rate: {_rates(rates, len(ranks))} Linear warm-up over {WARMUP_STEPS_SHARE:.0%} of the steps, then "
        "linear decay to 0.",
        f"Steps: {first.max_steps:,}; batch {first.training.per_device_train_batch_size}, accumulation "
        f"{first.training.gradient_accumulation_steps}; at most {first.training.max_length:,} tokens per example.",
    ]


def _rates(rates: Sequence[float], ranks: int) -> str:
    if len(rates) > 1:
        return f"{_listed(rates)} were tried; each rank is judged at its best one."
    return f"{rates[0]:g} at every rank, not tuned by rank." if ranks > 1 else f"{rates[0]:g}, not tuned."


def _versions(records: Iterable[RunRecord]) -> str:
    """Of RankViz, which trained these; this one where a run does not say."""
    return _listed(dict.fromkeys(run.environment.get("rankviz") or __version__ for run in records))


def _where(records: Iterable[RunRecord]) -> Iterable[str]:
    """Each place once, in sentences."""
    return dict.fromkeys(sentence for run in records for sentence in _environment(run.environment))


def _environment(where: Environment) -> Iterable[str]:
    if not where:
        return
    versions = where.get("versions") or {}
    known = [f"{name} {versions[name]}" for name in LIBRARIES if versions.get(name)]
    yield f"Device: {where.get('device_name') or 'not known'}; precision {where.get('precision') or 'not known'}."
    if known:
        yield f"Software: {', '.join(known)}."
    if where.get("data_fingerprint"):
        yield f"Fingerprints: data {where['data_fingerprint']}, base {where.get('model_fingerprint') or 'not known'}."


def _adapter(record: RunRecord, file_bytes: int, targets: Any) -> Iterable[Fact]:
    lora = record.request.lora
    named = ", ".join(map(str, targets)) if isinstance(targets, list | tuple) else str(targets or lora.target_modules)
    yield "Rank r", str(lora.r)
    yield "lora_alpha", f"{lora.lora_alpha:g}"
    yield "Learning rate", f"{record.request.learning_rate:g}"
    yield "Seed", str(record.request.seed)
    yield "Target modules", named
    if lora.variants:
        yield "Variant", ", ".join(lora.variants)
    if record.trainable_parameters is not None:
        yield "Trainable parameters", f"{record.trainable_parameters:,}"
    yield "File", f"{file_bytes:,} bytes"


def _cost(run: RunFacts) -> Iterable[Fact]:
    done, estimate = run.record.completed, run.estimate
    if done:
        yield "Training time, measured", units.duration(done.train_seconds)
        yield f"Peak memory, measured ({done.peak_memory_kind})", units.memory_size(done.peak_memory_bytes)
    yield from _estimated(estimate) if estimate else ()


def _estimated(estimate: RunEstimate) -> Iterable[Fact]:
    if estimate.seconds:
        yield "Training time, estimated", units.time_span(estimate.seconds)
    yield f"Peak memory, estimated ({estimate.memory_kind})", units.memory_span(estimate.memory_bytes)


def _quality(record: RunRecord) -> Iterable[Fact]:
    for when, held_out in (("of the base", record.loss_before), ("after training", record.loss_after)):
        if held_out:
            yield f"Held-out loss {when}", f"{held_out.loss:.4f} nats per token"
            if held_out.token_accuracy is not None:
                yield f"Token accuracy {when}", f"{100 * held_out.token_accuracy:.1f} %"


def _verdict(sweep: SweepFacts) -> Sequence[str]:
    return list(sweep.verdict) or [NO_VERDICT]


def _usage(base_model: str) -> Markdown:
    return Markdown(f"""```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({json.dumps(base_model)})
model = PeftModel.from_pretrained(base, "the name of this repository")
```""")


def _data(sweep: SweepFacts) -> str:
    return printable(data_label(sweep.runs[0].record.request))


def _card(front: Mapping[str, Any], title: str, lead: str, *sections: Markdown) -> str:
    # JSON is YAML, and quotes what YAML would read otherwise.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()]
    return "\n".join(["---", *lines, "---", "", f"# {_marked(title)}", "", _marked(lead), "", *sections])


def _section(heading: str, *paragraphs: str) -> Markdown:
    return Markdown(f"## {heading}\n\n" + "\n\n".join(map(_marked, paragraphs)) + "\n")


def _table(facts: Iterable[Fact]) -> Markdown:
    rows = [f"| {_marked(name)} | {_marked(printable(value))} |" for name, value in facts]
    return Markdown("\n".join(["| | |", "| --- | --- |", *rows]) if rows else "Not known.")


def _bullets(sentences: Iterable[str]) -> Markdown:
    return Markdown("\n".join(f"- {_marked(sentence)}" for sentence in sentences))


def _marked(text: str) -> Markdown:
    """As Markdown: what is not yet is one line that reads as it is, but for addresses."""
    if isinstance(text, Markdown):
        return text
    line = ADDRESS.sub(" ", " ".join(text.split()))
    for mark in MARKS:
        line = line.replace(mark, f"\\{mark}")
    return Markdown(printable(line, len(line)))


def _values(values: Iterable[Any]) -> list[Any]:
    return sorted(set(values))


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
