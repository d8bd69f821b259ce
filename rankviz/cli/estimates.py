"""`rankviz models`, `estimate`, `fit` and `export`."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.api.estimates import EstimateAnswer, estimate_json
from rankviz.cli.shared import Force, Json, Plot, asking, check, plot_estimate, print_json, require_new, table
from rankviz.core.accuracy.report import in_words
from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.cost.estimate import FIT_WORDS, RankEstimate, tight_meaning
from rankviz.core.cost.question import Question
from rankviz.core.lora.notes import experts_at
from rankviz.core.model.spec import WHOLE
from rankviz.core.quantity import by_level
from rankviz.errors import InvalidSettingError
from rankviz.units import NOT_KNOWN, memory_size, memory_span, money_span, time_span

if TYPE_CHECKING:
    from rankviz.core.fit.changes import Knob, Limit, Setting
    from rankviz.core.fit.decide import Card, Method


def models(as_json: Json = False) -> None:
    """List the base models of the catalogue."""
    rows = Api().models.all()
    if as_json:
        return print_json([asdict(row) for row in rows])
    whole = {r.id.removesuffix(WHOLE): f"{r.total_parameters:,}" for r in rows if r.id.endswith(WHOLE)}
    table(
        units.counted(len(rows), "model"),
        ["Model", "Parameters", "Tower", "With all towers", "Verified"],
        [[r.id, f"{r.total_parameters:,}", r.tower, whole.get(r.id, ""), "yes" if r.verified else "no"] for r in rows],
    )


@asking
def estimate(question: Question, plot: Plot = None, force: Force = False, as_json: Json = False) -> None:
    """Estimate a fine-tuning run: exact adapter size, and ranges for memory, time and cost."""
    check(plot, force=force)
    question, assumed = question.with_assumed_length()
    api = Api()
    answer = api.estimates.estimate(question)
    if plot:
        plot_estimate(plot, answer.estimate, in_words(answer.basis))
    if as_json:
        result = estimate_json(answer)
        return print_json({**result, "notes": [*filter(None, [assumed]), *result["notes"]]})
    model, gpu = answer.estimate.model, answer.estimate.gpu
    tight = any(rank.fit == "tight" for rank in answer.estimate.ranks)
    loading = any(rank.memory.fuller_while_loading for rank in answer.estimate.ranks)
    heads = ["r", "alpha", "Trainable", "Share", "File", "Memory (nvidia-smi)", "Time", "Cost", "Fit"]
    experts = {rank.r: experts_at(answer.estimate.plan, rank.r) for rank in answer.estimate.ranks}
    heads += ["Experts"] if any(experts.values()) else []
    meaning = f"Tight: {tight_meaning(api.workspace.assumptions)} on this GPU." if tight else ""
    table(
        f"{model.id}: {model.total_parameters:,} parameters" + (f", on {gpu.name}" if gpu else ""),
        [*heads, "While loading"] if loading else heads,
        [
            [
                *_row(rank, answer),
                *filter(None, [experts[rank.r]]),
                *([memory_span(rank.memory.loading_band)] if loading else []),
            ]
            for rank in answer.estimate.ranks
        ],
        notes=[in_words(answer.basis), *filter(None, [meaning, assumed]), *answer.estimate.notes],
    )


def _row(rank: RankEstimate, answer: EstimateAnswer) -> list[str]:
    return [
        str(rank.r),
        f"{rank.lora_alpha:g}",
        f"{rank.adapter_parameters:,}",
        f"{100 * answer.share(rank):.3f} %",
        units.file_size(rank.adapter_bytes),
        memory_span(rank.memory),
        time_span(rank.duration and rank.duration.total),
        money_span(rank.cost and rank.cost.usd),
        FIT_WORDS[rank.fit] if rank.fit else "no GPU chosen",
    ]


LIMITS = {"r": "Rank", "batch": "Batch", "max_length": "Max length"}


@asking
def fit(
    question: Question,
    price: Annotated[
        list[str] | None, typer.Option(help="Your own price as GPU=USD per hour, such as L4=0.75; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what fits, the effect of each change, the smallest change that fits, and the cheapest GPUs."""
    from rankviz.core.fit.changes import RULE
    from rankviz.core.fit.decide import as_json as decisions_json

    if len(question.ranks) != 1:
        raise InvalidSettingError("fit takes one rank: give -r once.")
    question, assumed = question.with_assumed_length()
    decisions = Api().estimates.fit(question, question.ranks[0], _prices(price or []))
    notes = [*filter(None, [assumed]), *by_level(decisions.setting.answer.notes)[0]]
    if as_json:
        return print_json({**decisions_json(decisions), "notes": notes})
    name = f"{decisions.setting.model.id}, r = {decisions.setting.r}"
    if decisions.limits:
        table(
            f"{name}: {_verdict(decisions.setting)}",
            ["Largest value that fits", "Certain", "Expected", "Note"],
            [*map(_limit_row, decisions.limits), *_loading_row(decisions.setting)],
        )
    table(
        f"{name}: effect of one change (same tokens)",
        ["Change", "Option", "Memory", "Time", "Fit"],
        [_knob_row(knob) for knob in decisions.knobs],
    )
    table(
        "GPUs that fit or may fit, cheapest first",
        ["GPU", "Fit", "Margin", "$ per hour", "Price source", "Time", "Total"],
        [_gpu_row(card) for card in decisions.cards if card.fit in ("fits", "tight", "uncertain")],
    )
    table(
        f"{name}: three training methods",
        ["Method", "Precision", "Trained", "Memory (nvidia-smi)", "Time", "Cost", "Saved", "Fit"],
        [_method_row(method) for method in decisions.methods],
        notes=[decisions.sentence, *notes, RULE],
    )


def _prices(options: list[str]) -> dict[str, float]:
    """ "L4=0.75" as a price by GPU."""
    prices = {}
    for text in options:
        gpu, _, price = text.partition("=")
        try:
            prices[gpu] = float(price)
        except ValueError:
            raise InvalidSettingError(f"Write a price as GPU=USD per hour, such as L4=0.75 (got {text!r}).") from None
    return prices


def _verdict(setting: "Setting") -> str:
    usable = setting.answer.usable_bytes.expected
    fit = FIT_WORDS[setting.row.fit]
    return f"{fit} on {setting.gpu.name}, {units.spare(setting.row.spare)} of {units.memory_size(usable)} usable"


def _limit_row(limit: "Limit") -> list[str]:
    return [LIMITS[limit.option], _value(limit.surely), _value(limit.expected), limit.note]


def _loading_row(setting: "Setting") -> list[list[str]]:
    """What loading takes, where that is more than training."""
    memory = setting.row.memory
    if not memory.fuller_while_loading:
        return []
    return [["While loading", "", memory_size(memory.while_loading), "no rank, batch or length changes it"]]


def _value(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _knob_row(knob: "Knob") -> list[str]:
    return [
        knob.label,
        " ".join(f"{'-' if name == 'r' else '--'}{name.replace('_', '-')} {v}" for name, v in knob.change.items()),
        units.memory_change(knob.device_bytes),
        NOT_KNOWN if knob.seconds is None else units.duration_change(knob.seconds),
        FIT_WORDS.get(knob.fit, ""),
    ]


def _gpu_row(card: "Card") -> list[str]:
    price = card.price
    return [
        card.gpu.name,
        FIT_WORDS.get(card.fit, ""),
        units.spare(card.spare),
        f"{price.usd_per_hour:.2f}" if price else NOT_KNOWN,
        ", ".join(filter(None, (price.provider, price.checked))) if price else "",
        time_span(card.seconds),
        money_span(card.usd),
    ]


def _method_row(method: "Method") -> list[str]:
    return [
        method.label,
        method.precision,
        f"{method.trained_parameters:,}",
        memory_span(method.device),
        time_span(method.seconds),
        money_span(method.usd),
        ("" if method.saved_exact else "about ") + units.file_size(method.saved_bytes),
        FIT_WORDS.get(method.fit, ""),
    ]


@asking
def export(
    question: Question,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="colab (a notebook for a free T4), script or notebook (for the framework), unsloth, trl, peft, "
            "adapter-config, axolotl or llamafactory. By default the notebook for a file that ends in .ipynb, else the "
            "script.",
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; a usual one by default, or that of --use-case.")
    ] = None,
    use_case: Annotated[
        str | None,
        typer.Option(help=f"Take the learning rate that is recommended for it: {', '.join(NAMES)}."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file, and what belongs to it beside it.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a script, a notebook or a configuration file with these settings, to train elsewhere."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("export takes one rank: give -r once.")
    if format_name is None:
        format_name = "notebook" if output is not None and output.suffix.lower() == ".ipynb" else "script"
    written = Api().exports.write(
        question, question.ranks[0], format_name, lr, Goal(use_case=use_case) if use_case else None
    )
    if output is None:
        print(written.text, end="")
    else:
        text = written.text.replace(written.file_name, shlex.quote(output.name))  # in commands that it shows
        files = {output: text} | {output.with_name(name): text for name, text in written.beside}
        _require_ending(output, Path(written.file_name).suffix, format_name)
        for path, text in files.items():
            require_new(path, force=force, text=text)
        for path, text in files.items():
            _write(path, text)
    for note in written.notes:
        print(f"Note: {note}", file=sys.stderr)


def _require_ending(path: Path, ending: str, format_name: str) -> None:
    """InvalidSettingError where a file's name says that it is of another kind."""
    if path.suffix.lower().replace(".yml", ".yaml") != ending:
        raise InvalidSettingError(
            f"The format {format_name} is a {ending} file: choose a name that ends in {ending} (got {path.name})."
        )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidSettingError(f"Cannot write {path}: {error.strerror}. Choose another file.") from error
    print(path)
