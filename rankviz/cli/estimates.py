"""The commands `models`, `estimate`, `fit`, `serving` and `export`."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.api.estimates import MEMORY, GpuRowJSON, estimate_json
from rankviz.cli.shared import (
    Force,
    Json,
    Plot,
    asks,
    check_plot,
    print_json,
    print_notes,
    question_in,
    require_new,
    table,
    write_plot,
)
from rankviz.core.accuracy.report import in_words
from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.cost.estimate import FIT_WORDS, tight_meaning
from rankviz.core.from_json import as_answer
from rankviz.core.model.spec import WHOLE
from rankviz.core.quantity import by_level
from rankviz.errors import InvalidSettingError
from rankviz.options import EVERY, GRPO, OPTIONS, SERVED, SERVER
from rankviz.units import NOT_KNOWN, memory_span, money_span, time_span

if TYPE_CHECKING:
    from rankviz.core.fit import Change, FittingCard


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="Words of a name, family or licence in any order; or an address."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="List at most so many models.")] = None,
    as_json: Json = False,
) -> None:
    """Search the base models of the catalogue, or list all of them."""
    api = Api()
    rows, more, note = api.models.search(" ".join(words or ()), limit)
    if as_json:
        print_notes(filter(None, [note]))
        return print_json([asdict(row) for row in rows])
    whole = {r.id.removesuffix(WHOLE): f"{r.total_parameters:,}" for r in api.models.all() if r.id.endswith(WHOLE)}
    cells = [
        {
            "Model": row.id,
            "Found as": row.name if "/" in row.name else "",
            "Parameters": f"{row.total_parameters:,}",
            "Tower": row.tower,
            "With all towers": whole.get(row.id, ""),
            "Verified": "yes" if row.verified else "no",
        }
        for row in rows
    ]
    table(units.counted(len(rows) + more, "model"), cells, notes=filter(None, [note]))


def gpus(as_json: Json = False) -> None:
    """List the GPUs that --gpu takes, with memory, speed and dated prices."""
    rows = Api().workspace.gpus
    if as_json:
        return print_json([as_answer(GpuRowJSON, row) for row in rows])
    cells = [
        {
            "GPU": row.id,
            "Name": row.name,
            "Memory": (units.memory_size if row.is_mac else units.file_size)(row.memory_bytes),
            "Usable": units.memory_size(row.usable_bytes) if row.usable_bytes else NOT_KNOWN,
            "bf16": "yes" if row.supports_bf16 else "no",
            "$ per hour": f"{row.price.usd_per_hour:.2f}" if row.price else NOT_KNOWN,
            "Price source": f"{row.price.provider}, {row.price.checked}" if row.price else "",
        }
        for row in rows
    ]
    table(units.counted(len(rows), "GPU"), cells, texts=2, notes=[f"Without --gpu: {OPTIONS['gpu'].default}."])


@asks(*GRPO)
def estimate(plot: Plot = None, force: Force = False, as_json: Json = False, **options: Any) -> None:
    """Estimate a fine-tuning run: exact adapter size, and ranges for memory, time and cost."""
    check_plot(plot, force=force)
    question, assumed = question_in(options).with_assumed_length()
    api = Api()
    answer = api.estimates.estimate(question)
    if plot:
        from rankviz.figures import memory_figure

        drawing, title = memory_figure(answer.estimate), f"Memory by component and rank: {answer.estimate.model.id}"
        write_plot(plot, drawing, title, f"{drawing.source} {in_words(answer.basis)}")
    if as_json:
        return print_json(estimate_json(answer, assumed))
    ranks = answer.estimate.ranks
    tight = any(rank.fit == "tight" for rank in ranks)
    meaning = f"Tight: {tight_meaning(api.workspace.assumptions)} on this GPU." if tight else ""
    table(
        answer.title,
        map(answer.texts, ranks),
        notes=[in_words(answer.basis), *filter(None, [meaning, assumed]), *answer.estimate.notes],
    )


LIMITED = {"r": "Rank", "batch": "Batch", "max_length": "Max length", "max_completion_length": "Completion length"}


@asks(*GRPO)
def fit(
    price: Annotated[
        list[str] | None, typer.Option(help="Your own price as GPU=USD per hour, such as L4=0.75; repeatable.")
    ] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Show what fits, the effect of each change, the smallest change that fits, and the cheapest GPUs."""
    from rankviz.core.fit import RULE
    from rankviz.core.fit import as_json as decisions_json

    question, assumed = question_in(options, "fit").with_assumed_length()
    decisions = Api().estimates.fit(question, question.ranks[0], _prices(price or []))
    setting = decisions.setting
    on_mac = setting.gpu is not None and setting.gpu.is_mac
    notes = [*filter(None, [assumed]), *by_level(setting.notes)[0]]
    if as_json:
        return print_json({**decisions_json(decisions), "notes": notes})
    name, number = f"{setting.model.id}, r = {setting.row.r}", ""
    if setting.question.training.gpus > 1:
        number = f"each of {setting.question.training.gpus} x "
    if decisions.limits:
        usable, memory = units.memory_size(setting.usable_bytes.expected), setting.row.memory
        left = f"{units.spare(setting.row.spare)} of {usable} usable"
        left = "since vLLM does not start, or refuses the adapter" if setting.row.refused else left
        fits = f"{FIT_WORDS[setting.row.fit]} on {number}{setting.gpu.name}, {left}"
        rows = [
            {
                "Largest value that fits": LIMITED[limit.option],
                "Certain": "none" if limit.surely is None else f"{limit.surely:,}",
                "Expected": "none" if limit.expected is None else f"{limit.expected:,}",
                "Note": "" if setting.row.refused else limit.note,  # a sentence that stands below
            }
            for limit in decisions.limits
        ]
        if memory.fuller_while_loading:
            notes.append(f"While the base is loaded it takes {units.memory_size(memory.while_loading)}.")
        table(f"{name}: {fits}", rows)
    here = [
        {"Change": card.label, "Option": _flags(card.change), "Fit": FIT_WORDS[card.fit]}
        for card in decisions.several
        if setting.gpu and card.gpu_id == setting.gpu.id
    ]
    changes = [
        {
            "Change": knob.label,
            "Option": _flags(knob.change),
            "Memory": units.memory_change(knob.device_bytes),
            "Time": NOT_KNOWN if knob.seconds is None else units.duration_change(knob.seconds),
            "Fit": FIT_WORDS.get(knob.fit, ""),
        }
        for knob in decisions.knobs
    ]
    table(f"{name}: effect of one change (same {decisions.same_tokens})", [*changes, *here], texts=2)
    if not setting.row.refused:
        reasons = {each.refused: each.label for each in (*decisions.methods, *decisions.knobs) if each.refused}
        notes += (f"{label}: {reason}" for reason, label in reasons.items())
    if cards := [card for card in decisions.cards if card.fit in ("fits", "tight", "uncertain")]:
        table("GPUs that fit or may fit, cheapest first", map(_gpu_row, cards))
    if decisions.several:
        table("Several GPUs on which it fits, cheapest first", map(_gpu_row, decisions.several))
    methods = [
        {
            "Method": method.label,
            "Precision": method.precision,
            "Trained": f"{method.trained_parameters:,}",
            MEMORY[on_mac]: memory_span(method.device_bytes),
            "Time": time_span(method.seconds),
            "Cost": money_span(method.usd),
            "Saved": ("" if method.saved_exact else "about ") + units.file_size(method.saved_bytes),
            "Fit": FIT_WORDS.get(method.fit, ""),
        }
        for method in decisions.methods
    ]
    table(f"{name}: training methods", methods, notes=[decisions.sentence, *notes, RULE])


def _prices(options: list[str]) -> dict[str, float]:
    """Return price by GPU from options such as "L4=0.75", in US dollars per hour."""
    prices = {}
    for text in options:
        gpu, _, price = text.partition("=")
        try:
            prices[gpu] = float(price)
        except ValueError:
            raise InvalidSettingError(f"Write a price as GPU=USD per hour, such as L4=0.75 (got {text!r}).") from None
    return prices


def _flags(change: "Change") -> str:
    """Return a change as options of the command line."""
    spelled = {name: ("-r" if name == "r" else f"--{name.replace('_', '-')}", value) for name, value in change.items()}
    return " ".join(
        flag if value is True else f"{flag} {value}" for flag, value in spelled.values() if value is not False
    )


def _gpu_row(card: "FittingCard") -> dict[str, str]:
    return {
        "GPU": card.label,
        "Fit": FIT_WORDS.get(card.fit, ""),
        "Margin": units.spare(card.margin_bytes),
        "$ per hour": NOT_KNOWN if card.usd_per_hour is None else f"{card.usd_per_hour:.2f}",
        "Price source": ", ".join(filter(None, (card.provider, card.price_checked))),
        "Time": time_span(card.seconds),
        "Total": money_span(card.usd),
    }


@asks(after=SERVED)
def serving(as_json: Json = False, **options: Any) -> None:
    """Show what serving the adapter costs: vLLM's slots, how many fit, the merged model, llama.cpp's file."""
    from rankviz.core.serving import points, rows

    question = question_in(options, "serving")
    answer = Api().estimates.serving(question, question.ranks[0], **{name: options[name] for name in SERVER})
    if as_json:
        return print_json(answer)
    shown = ({"Subject": name, "Figure": figure, "Remark": remark} for name, figure, remark in rows(answer))
    table(
        f"{answer['model_id']}, r = {answer['r']}: serving",
        shown,
        texts=3,
        notes=[*answer["notes"], *filter(None, [answer["command"]])],
    )
    names = ("Setting", "Measured", "r", "Time", "Source")
    measured = (dict(zip(names, each, strict=True)) for each in points(answer))
    table("Published slow-down by an unmerged adapter", measured, texts=2)


@asks("learning_rate", "loraplus_lr_ratio", *GRPO)
def export(
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"{EVERY['format'].help} By default the notebook for a file that ends in .ipynb, else the script.",
        ),
    ] = None,
    use_case: Annotated[
        str | None, typer.Option(help=f"Take the learning rate that is recommended for it: {', '.join(NAMES)}.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file, and what belongs to it beside it.")
    ] = None,
    force: Force = False,
    **options: Any,
) -> None:
    """Write a script, a notebook or a configuration file with these settings, to train elsewhere."""
    question = question_in(options, "export")
    if format_name is None:
        format_name = "notebook" if output is not None and output.suffix.lower() == ".ipynb" else "script"
    goal = Goal(use_case=use_case) if use_case else None
    rates = options["learning_rate"], goal, options["loraplus_lr_ratio"]
    written = Api().advice.export(question, question.ranks[0], format_name, *rates)
    notes = written.notes
    if output is None:
        print(written.text, end="")
    else:
        ending = Path(written.file_name).suffix
        if output.suffix.lower().replace(".yml", ".yaml") != ending:
            raise InvalidSettingError(
                f"The format {format_name} is a {ending} file: choose a name that ends in {ending} (got {output.name})."
            )
        # In commands that they show.
        text, *notes = (each.replace(written.file_name, shlex.quote(output.name)) for each in (written.text, *notes))
        files = {output: text} | {output.with_name(name): text for name, text in written.extra_files}
        for path, text in files.items():
            require_new(path, force=force, text=text)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
            print(path)
    print_notes(f"Note: {note}" for note in notes)
