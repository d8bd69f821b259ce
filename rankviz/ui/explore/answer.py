"""Answers Explore's question for the page's script: all ranks at once, the chart and the recommendation.

The answers have addresses beside Gradio's: an event of Gradio copies the state of the whole page, an answer here is
one request. It has the texts of every rank from 1 to 256, so a change of the rank needs no request.
"""

import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rankviz import units
from rankviz.api import Api
from rankviz.api.advice import AdviceAnswer
from rankviz.api.studies import CANNOT_READ
from rankviz.catalog.hardware import find_gpu
from rankviz.catalog.models import close_names
from rankviz.core.advice import words as advice_words
from rankviz.core.advice.use_case import Goal
from rankviz.core.advice.words import HIGH, LOW
from rankviz.core.bounds import one_of, plain_text
from rankviz.core.cost.estimate import Estimate, RankEstimate
from rankviz.core.cost.notes import data_cautions
from rankviz.core.cost.question import Question
from rankviz.core.cost.stack import stays_16_bit
from rankviz.core.fit import FITTING, FittingCard, instead
from rankviz.core.forecast.bands import UNIT_WORDS, RankForecast
from rankviz.core.forecast.quick_look import BentRank
from rankviz.core.forecast.tradeoff import RANKS, SHORTFALL_LOSS, SHORTFALLS, Tradeoff
from rankviz.core.lora.notes import experts_at
from rankviz.core.quantity import Range, by_level
from rankviz.core.runs.metric import METRICS
from rankviz.core.studies.lines import RL
from rankviz.endpoints.gate import require
from rankviz.errors import InvalidSettingError, RankVizError, UnknownGpuError
from rankviz.figures import X_LABELS, hero_figure, hero_info
from rankviz.figures.hero import QUALITY_LABELS
from rankviz.figures.style import CHOSEN, vertical_line
from rankviz.shared.identity import visitor_of
from rankviz.store.runs import viewing
from rankviz.ui import link
from rankviz.ui.link import DEFAULTS, NO_GPU
from rankviz.ui.parts import html
from rankviz.ui.parts.html import Cell
from rankviz.ui.parts.question import ask, length_note
from rankviz.ui.parts.widgets import PANEL_HEIGHT, chart_json
from rankviz.units import NOT_KNOWN, counted, memory_span, money_span
from rankviz.visitor import acting_as

X_DEFAULT = "file"
HERO_HEIGHT = 450
MAX_ADDRESS = 8000
"""Maximum characters of an address."""
KINDS = {bool: bool, str: str | None, list: list[str] | None}
"""Type of a widget's value, by the type of its default. A widget with another default has a number or None."""
SHOWN = "Shown: quality in published studies, without the costs of a model."
SUGGESTED = 6
"""Most models in the list below a box in which a name is typed."""
UNBROKEN = "r\u00a0=\u00a0"
""""r = " with non-breaking spaces, so that no line ends within "r = 64"."""
FIGURES = ("Trainable parameters", "Adapter file", "GPU memory", "Time", "Cost")
"""Names of the five figures, in their order."""
FORECAST = "Forecast: median (80 % band)"
"""Heading above the forecasts of all ranks."""
BASES = {"nf4": "4-bit", "nf4-dq": "4-bit", "int8": "8-bit"} | {name: name for name in ("bf16", "fp16", "fp32")}
"""Words for the precision of the base model's weights."""
Text = Callable[[float], str]
SENTENCE_END = r"(?<=\.) (?=[A-Za-z])"
"""Pattern of the space between two sentences; a decimal point has no space after it."""


def routes(api: Api) -> list[Route]:
    """Return a POST route for each answer of this module."""

    async def respond(view: Callable[..., Mapping[str, Any]], request: Request) -> Response:
        body, zipped = await request.body(), "gzip" in request.headers.get("accept-encoding", "")
        with acting_as(visitor_of(request)):
            return await run_in_threadpool(reply, partial(view, api), body, zipped)

    views = {"answer": answer, "words": lambda api, body: words(api, given(api, body))}
    views |= {"models": models, "compare": compare}
    return [Route(f"/rankviz/{name}", partial(respond, view), methods=["POST"]) for name, view in views.items()]


def reply(view: Callable[[Mapping[str, Any]], Mapping[str, Any]], body: bytes, zipped: bool = False) -> Response:
    """Return a view's answer as JSON. A mistake of the user becomes a notice; an unreadable question has status 422."""
    question, status, headers = None, 200, {"Cache-Control": "no-store"}
    with suppress(ValueError, RecursionError):
        question = json.loads(body)
    try:
        if not isinstance(question, dict):
            status = 422
            raise InvalidSettingError("The request could not be read. Reload the page.")
        with viewing():
            value = view(question)
    except RankVizError as error:
        value, zipped = {"notice": html.notice_html(str(error), kind="error")}, False
    text = orjson.dumps(value).replace(b"r = ", UNBROKEN.encode())  # NaN and infinity become null
    if zipped:
        text = gzip.compress(text, 1)
        headers["Content-Encoding"] = "gzip"
    return Response(text, status, headers, "application/json")


def question_of(api: Api, params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that an address describes, and a sentence for each mistake in it. Settings that the address
    leaves out are the page's defaults, or framework and preset of `suitable`."""
    given_values, notes = link.read(params)
    values = DEFAULTS | given_values
    try:
        is_named = values["gpu"].casefold() != NO_GPU
        values["gpu"] = find_gpu(api.workspace.gpus, values["gpu"]).id if is_named else NO_GPU
    except UnknownGpuError:
        known = ", ".join([*(gpu.id for gpu in api.workspace.gpus), NO_GPU])
        notes.append(link.wrong("gpu", values["gpu"], f"one of {known}"))
        values["gpu"] = DEFAULTS["gpu"]
    if not {"targets", "framework", "class"} & set(params):
        values |= suitable(api, values)
    return values, notes


def suitable(api: Api, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the framework and preset for a model that cannot be trained with the page's defaults; empty for other
    models, and for a model that is only on the Hub."""
    usual = DEFAULTS["framework"], DEFAULTS["preset"]
    framework, preset = usual
    with suppress(RankVizError):
        if model := api.models.at_hand((values["model"] or "").strip()):
            framework, preset = api.models.usual_setting(model)
    return {} if (framework, preset) == usual else {"framework": framework, "preset": preset}


def given(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the question's values that a browser sent, or that the address in `search` describes, with defaults for
    the rest. Every value has the type of its widget; the core checks its range."""
    if isinstance(body.get("search"), str):
        plain_text(body["search"], "The address", MAX_ADDRESS)
        return question_of(api, dict(parse_qsl(body["search"].lstrip("?"))))[0]
    sent, values = body.get("values"), {}
    if not isinstance(sent, Mapping):
        raise InvalidSettingError("The request has no values. Reload the page.")
    for name, default in DEFAULTS.items():
        value = sent.get(name, default)
        require(value, KINDS.get(type(default), float | None), name)
        if isinstance(default, str | list):
            value = value or type(default)()
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        values[name] = value
    return values


def answer(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that the first screen of Explore shows. body: `values` or `search` for the question (see
    `given`); `x`, the cost axis; `y`, the quality axis."""
    values = given(api, body)
    question, r = ask(values), values["r"]
    x, y = body.get("x") or X_DEFAULT, body.get("y") or None
    if "search" in body:  # the notice above the tabs names a wrong axis of an address
        x = x if x in tuple(X_LABELS) else X_DEFAULT
        y = y if y in tuple(QUALITY_LABELS) else None
    one_of(x, "Cost axis", tuple(X_LABELS))
    try:
        tradeoff = api.studies.tradeoff(question, values["use_case"], y)
    except CANNOT_READ:
        tradeoff = api.studies.tradeoff(question, values["use_case"], y, costs=False)
    info, estimate = hero_info(tradeoff, x=x), tradeoff.estimate
    drawing, known = hero_figure(info, height=HERO_HEIGHT), records(tradeoff, {*RANKS, *question.ranks})
    told = words(api, values, estimate)
    if told["cost"]:
        known[str(r)]["cheapest"] = told["cost"]
    name = estimate.model.id if estimate else question.model_id
    source = " ".join([f"{name}.", *info.sentences])
    chart = chart_json(drawing, file=f"trade-off-{tradeoff.quality}", source=source)
    return {
        "values": values,
        "x": x if estimate else "rank",
        "y": tradeoff.quality,
        "qualities": [[key, QUALITY_LABELS[key]] for key in tradeoff.qualities],
        "records": known,
        "fits": html.FITS,
        "chart": {**chart, "xs": info.xs},
        "caption": info.sentences,
        **told,
        "shown": html.paragraphs(f"Shown: {name.rpartition('/')[2]}, with the last valid settings."),
        "r": r,
        "usual_r": DEFAULTS["r"],
    }


def models(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the list of models below a box in which a name is typed. body: `words`, the text in the box."""
    plain_text(body.get("words"), "The words")
    found, _, note = api.models.search(body["words"]) if body["words"].strip() else ((), 0, "")
    rows = [(row.name if "/" in row.name else row.id, units.count(row.total_parameters)) for row in found[:SUGGESTED]]
    return {"html": html.model_buttons(rows, "option") + (html.paragraphs(note) if note else "")}


def words(api: Api, values: Mapping[str, Any], estimate: Estimate | None = None) -> dict[str, Any]:
    """Return message, recommendation, notes (of a model that cannot be read, a notice), address, and `cost`, the figure
    in place of the cost of a rank that does not fit. estimate: of this question, if there is one already."""
    question = ask(values)
    advised = api.advice.advise(question, goal_of(values), costs=False)
    if known_model := bool(advised.target_names):
        estimate = estimate or api.estimates.estimate(question).estimate
    fit, cost = fit_and_cost(api, estimate, values["r"], advised) if estimate and estimate.gpu else ("", None)
    quality = advice_words.forecast_sentence(advised.forecast, LOW, HIGH)
    quality = f"{quality[:-1]}; data and learning rate matter more." if advised.forecast.ranks else quality
    known, note, model = advised.own or quality, "", values["model"].strip()
    near = () if known_model else close_names(api.models.all(), model)
    assumed = api.workspace.references.model(model).note if known_model else ""
    gpu_note = ""
    if estimate and estimate.usable_bytes:
        price = "No price in the table: enter your own."
        if estimate.price:
            source = f"{estimate.price.provider}, {estimate.price.checked}".rstrip(", ")
            price = f"${estimate.price.usd_per_hour:.2f} per hour ({source})."
        gpu_note = html.paragraphs(price, f"Usable memory: {memory_span(estimate.usable_bytes)}.")
    if values["use_case"] == RL:
        note = "Both train on examples and measure held-out loss. That does not tell the reward."
    elif estimate is None:
        note = "This model cannot be read here, so it cannot be trained here: choose another base on Train."
    return {
        "address": link.write(values),
        "cost": cost,
        "without_costs": "" if known_model else html.notice_html(*advised.notes, SHOWN, kind="error", models=near),
        "slots": {
            "message": html.paragraphs(estimate and advice_words.what_rank_changes(estimate), known, css="rv-message"),
            "model-note": html.paragraphs(assumed) if assumed else "",
            "advice": card(advised, estimate, values["r"], fit),
            "why": details(advised),
            "measure-note": html.paragraphs(note) if note else "",
            "gpu-note": gpu_note,
            "length-note": length_note(question),
        },
    }


def goal_of(values: Mapping[str, Any]) -> Goal:
    """Return the use case that the widgets describe; the core checks it."""
    return Goal(use_case=values["use_case"], forgetting=bool(values["forgetting"]))


def fit_and_cost(api: Api, estimate: Estimate, r: int, answer: AdviceAnswer) -> tuple[str, list[str] | None]:
    """Return whether the recommended rank and targets fit, as HTML, with what does if they do not; and for a selected
    rank r that does not fit, the figure that names the cheapest GPU that does."""
    rows, best = {rank.r: rank for rank in estimate.ranks}, replace(estimate.question, ranks=(answer.advice.r,))
    fit, where, cost = rows[answer.advice.r].fit, estimate.gpu.name, None
    if set(answer.target_names) != set(estimate.plan.target_names):
        with suppress(InvalidSettingError):
            wide = api.advice.recommended(estimate.question, answer.advice.r, answer.target_modules)
            best, fit, where = wide.question, wide.row.fit, f"{where} with these targets"

    def other(asked: Question) -> tuple[str, FittingCard | None]:
        return instead(estimate.model, asked, estimate.gpu, api.workspace.gpus, api.workspace.assumptions)

    text = f" on {where}" + (" in supervised training, without generation" * (answer.advice.case.name == RL))
    if fit not in FITTING:
        text += f". What fits for certain: {other(best)[0] or 'no single GPU of the table'}."
    if rows[r].fit == "does_not_fit" and (card := other(replace(estimate.question, ranks=(r,)))[1]):
        price = f", about {units.usd(card.usd.expected, card.usd)}" if card.usd else ""
        cost = [card.label, "", f"cheapest GPU that fits{price}", "–"]
    return f'<p><span class="rv-fit rv-fit-{fit}">{html.FITS[fit]}</span>{escape(text)}</p>', cost


def card(answer: AdviceAnswer, estimate: Estimate | None, r: int, fit: str) -> str:
    """Return the recommendation as HTML. estimate: for the current question, with its warnings; None for a model that
    cannot be read. r: the selected rank. fit: whether the recommended one fits, as HTML."""
    advice = answer.advice
    button = '<button type="button" class="rv-button" data-{}>{} r = {}</button>'.format
    take = button(f'use="{advice.r}"', "Use", advice.r)
    script = f"<p>{button('open=export', 'Colab or script for', r)}</p>" if estimate else ""
    warnings = []
    if estimate:
        beside_data = tuple(data_cautions(estimate.question.training))  # length_note has them
        warnings = [each for each in by_level(estimate.notes)[0] if each not in beside_data]
    warning = f"Warning: {_first(warnings[0])}" if warnings else ""
    more = f"{counted(len(warnings) - 1, 'more warning')} under Fit and memory." if len(warnings) > 1 else ""
    settings = (
        ("alpha", "r" if advice.case.r_range else f"{advice.lora_alpha}"),
        ("Learning rate", advice_words.rate_in_words(advice)),
        ("Targets", "all linear layers"),
    )
    return (
        f'<div class="rv-advice"><h2>Recommended: r = {advice.r} <span class="rv-fit">'
        f"{advice_words.confidence(advice)} confidence</span></h2>{take * (r != advice.r)}"
        f"{html.paragraphs(advice_words.main_sentences(advice)[0], css='')}{fit}{html.named_values(settings)}"
        f"{script}{html.paragraphs(warning, more, css='')}</div>"
    )


def details(answer: AdviceAnswer) -> str:
    """Return the folded reasons for the recommendation, in at most 250 words: the nearest studies are in Studies."""
    advice, reasons = answer.advice, ""
    for each in advice_words.reasons(advice):
        if each.name != "nearest":
            source = escape(each.source.partition(";")[0])
            source = html.link(source, each.url) if each.url.startswith("https://") else source
            reasons += f'<li>{escape(_first(each.text))} <span class="rv-source">{source}</span></li>'
    past = re.split(SENTENCE_END, advice_words.confidence_in_words(advice))[-1]
    rest = (past, advice_words.forecast_sentence(answer.forecast, advice.r), advice_words.main_sentences(advice)[2])
    nearest = '<button type="button" class="rv-button" data-open="studies">Nearest studies</button>'
    rest = html.paragraphs(*rest, css="")
    body = f'<div class="rv-advice rv-halves"><ul>{reasons}</ul><div>{rest}{nearest}</div></div>'
    return html.folded(f"Details: why r = {advice.r}", body, name="details")


def _first(sentences: str) -> str:
    return re.split(SENTENCE_END, sentences, maxsplit=1)[0]


def records(tradeoff: Tradeoff, ranks: Set[int]) -> dict[str, Any]:
    """Return the texts by rank: `figures` has value, exact value, second line and short form for each of FIGURES. A
    model that cannot be read has only a quality."""
    forecast, estimate = tradeoff.forecast or tradeoff.bent, tradeoff.estimate
    known = {rank.r: rank for rank in forecast.ranks} if forecast else {}
    if estimate is None:
        unknown = {"figures": [["–", "", "", "–"]] * len(FIGURES), "share": "–", "fit": "", "scale": ""}
        return {str(r): unknown | _quality(tradeoff, known.get(r)) for r in sorted(ranks)}
    rule, figures = "α / √r" if estimate.question.lora.use_rslora else "α / r", _figures(estimate)
    return {
        str(rank.r): {
            "figures": figures(rank),
            "share": units.percent(rank.adapter_parameters / estimate.model.total_parameters),
            "fit": rank.fit or "",
            **_quality(tradeoff, known.get(rank.r)),
            "scale": f"α = {rank.lora_alpha:g}, scale {rule} = {rank.scale:.4g}",
        }
        for rank in estimate.ranks
        if rank.r in ranks
    }


def _quality(tradeoff: Tradeoff, rank: RankForecast | BentRank | None) -> dict[str, Any]:
    """Return the forecast at one rank: median and 80 % band as text and exactly, and the median."""
    if rank is None:
        return {"quality": "no forecast", "quality_exact": "", "median": None}

    def band(text: Text) -> str:
        ends = "" if rank.low_80 is None else f" ({text(rank.low_80)} to {text(rank.high_80)})"
        return f"{text(rank.median)}{ends}"

    if tradeoff.forecast is None:
        quality = band(METRICS[tradeoff.quality].text)
    elif rank.r == tradeoff.forecast.reference_rank:
        quality = "the reference"
    else:
        points = band(lambda value: f"{value:.2f}".replace("-", "−"))
        quality = f"{points} {UNIT_WORDS[tradeoff.forecast.unit]}"
    return {"quality": quality, "quality_exact": band("{:.6f}".format), "median": rank.median}


def _figures(estimate: Estimate) -> Callable[[RankEstimate], list[list[str]]]:
    """Return a function from a rank to value, exact value, second line and short form of FIGURES."""
    gpu, setup, plan = estimate.gpu, estimate.question.training, estimate.plan
    base = f"{'16-bit' if stays_16_bit(estimate.model, setup) else BASES[setup.precision]} base"
    saved = "saved in 32 bit" if estimate.adapter_dtype == "fp32" else "saved in 16 bit"
    # A column has one unit, so that its numbers compare.
    least, largest = estimate.ranks[0], estimate.ranks[-1]
    low = next((rank for rank in estimate.ranks if rank.r == LOW), least)
    size = partial(units.memory_size, ends=Range(0, 0, largest.memory.high))
    text = least.duration and partial(units.time_in, ends=least.duration.total)

    def ends(values: Range, form: str, sign: str = "") -> str:
        return f"{values.low:{form}} to {sign}{values.high:{form}}"

    def at(rank: RankEstimate) -> list[list[str]]:
        duration, usd, saved_bytes = rank.duration, rank.usd, rank.adapter_bytes
        share = f"{units.percent(rank.adapter_parameters / estimate.model.total_parameters)} of the base"
        file, memory = units.file_size(saved_bytes, low.adapter_bytes), rank.memory.device_band
        count = units.count(rank.adapter_parameters, low.adapter_parameters)
        margin = f"; margin {rank.margin_bytes:,}" if rank.fit else ""
        time, money = [NOT_KNOWN, "", "select a GPU with a known speed", NOT_KNOWN], ("", "", NOT_KNOWN)
        if duration:
            total, about = duration.total, text(duration.total.expected)
            exact = f"{ends(total, ',.1f')} seconds, expected {total.expected:,.1f}"
            time = [units.span(total, text), exact, f"about {about}", about]
        if usd:
            about = units.usd(usd.expected, usd)
            money = f"${ends(usd, ',.4f', '$')}, expected ${usd.expected:,.4f}", f"about {about}", about
        loading = f"{rank.memory.while_loading:,} while loading{margin}"
        device = f"{ends(memory, ',.0f')} bytes, expected {memory.expected:,.0f}; {loading}"
        on_gpu = f"on {gpu.name}, {base}: {units.spare(rank.spare)}" if gpu and rank.fit else f"{base}, no GPU selected"
        shares = "; ".join(filter(None, [share, experts_at(plan, rank.r)]))
        cost = [money_span(usd), money[0], money[1] or "select a GPU with a price, or enter one", money[2]]
        if rank.fit == "does_not_fit":  # fit_and_cost names a GPU in its place
            cost = ["–", "", f"does not fit {gpu.name}", "–"]
        return [
            [count, f"{rank.adapter_parameters:,} parameters", shares, count],
            [file, f"{saved_bytes:,} bytes, header included", saved, file],
            [units.span(memory, size), device, on_gpu, size(memory.expected)],
            time,
            cost,
        ]

    return at


MAX_PINS, MAX_PIN_LENGTH = 4, 2000
LETTERS = "ABCD"
PROBLEM = "Cannot be shown"
TITLES = {
    "gpu": "GPU",
    "usd": "$ per hour",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "moe": "Experts",
    "save": "modules_to_save",
    "class": "Unsloth class",
    "accum": "Accumulation",
    "optim": "Optimizer",
    "loss_path": "Loss",
    "file": "Data file",
    "longest": "Longest example",
    "example_tokens": "Tokens per example",
    "forgetting": "Must not forget",
}
"""Titles of settings whose names in an address are not suitable as titles."""
EMPTY = (
    "Nothing is pinned. Press “Pin to compare” beside the chart to keep a configuration here, then change the model or "
    "the rank."
)


def compare(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the comparison's markup and a chart for each configuration. body: `pins`, a list of query strings; `x`
    and `y`, the axes of the trade-off chart."""
    pins = body.get("pins")
    if not isinstance(pins, list) or not all(isinstance(pin, str) and len(pin) <= MAX_PIN_LENGTH for pin in pins):
        raise InvalidSettingError("The pinned configurations could not be read. Remove pin from the address.")
    if len(pins) > MAX_PINS:
        raise InvalidSettingError(f"At most {MAX_PINS} configurations can be pinned (got {len(pins)}).")
    if not pins:
        return {"html": html.empty(EMPTY), "charts": []}
    x = body.get("x") or X_DEFAULT
    one_of(x, "Cost axis", tuple(X_LABELS))
    quality = body.get("y") if body.get("y") in tuple(SHORTFALLS) else SHORTFALL_LOSS
    columns, charts = [], []
    for letter, pin in zip(LETTERS, pins, strict=False):
        values, notes = question_of(api, dict(parse_qsl(pin.lstrip("?"))))
        title = f"{letter}: {values['model'].rsplit('/', 1)[-1]}, r = {values['r']}"
        try:
            if notes:
                raise InvalidSettingError(" ".join(notes))
            tradeoff = api.studies.tradeoff(ask(values), values["use_case"], quality)
        except RankVizError as error:
            columns.append((title, pin, {"Model": Cell(values["model"]), PROBLEM: Cell(str(error))}))
            continue
        info, r = hero_info(tradeoff, x=x), values["r"]
        drawing = hero_figure(info, height=PANEL_HEIGHT)
        if r <= len(info.xs) and (place := info.xs[r - 1]) is not None:
            drawing.layout["shapes"] = [vertical_line(place, CHOSEN)]
        charts.append({"title": title, **chart_json(drawing, file=f"compare-{letter}")})
        record = records(tradeoff, {r})[str(r)]
        cells = {"Model": Cell(values["model"]), "Rank": Cell(f"r = {r}")}
        own = {name: text for name, text in link.write(values).items() if name not in ("r", "model", "take")}
        cells |= {name: Cell(text) for name, text in own.items() if text is not None}
        cells |= {name: Cell(*figure[:2]) for name, figure in zip(FIGURES, record["figures"], strict=True)}
        cells["Fit"] = Cell(html.FITS.get(record["fit"], ""))
        cells[FORECAST] = Cell(record["quality"], title=record["quality_exact"])
        columns.append((title, pin, cells))
    return {"html": _table(columns), "charts": charts}


def _table(columns: Sequence[tuple[str, str, Mapping[str, Cell]]]) -> str:
    """Return a table with settings first and figures last; a row in which the columns differ is marked."""
    ends = [*FIGURES, "Fit", FORECAST]
    names = list(dict.fromkeys(name for _, _, cells in columns for name in cells if name not in ends)) + ends
    head = "".join(
        f'<th scope="col" class="rv-left">{escape(label)} <a href="?{escape(pin.lstrip("?"))}">Open</a> '
        f'<button type="button" data-unpin="{place}" aria-label="Unpin {escape(label)}">Unpin</button></th>'
        for place, (label, pin, _) in enumerate(columns)
    )
    body = ""
    for name in names:
        # A setting that the address leaves out is as usual; a column that cannot be shown has dashes.
        usual = Cell("" if name == PROBLEM else link.usual(name))
        shown = [cells.get(name, Cell("–") if PROBLEM in cells else usual) for _, _, cells in columns]
        differs = len({cell.text for cell in shown}) > 1
        mark, css = ('<span class="rv-unseen">differs: </span>', "rv-differs") if differs else ("", "")
        title = escape(TITLES.get(name) or name[0].upper() + name[1:].replace("_", " "))
        cells = "".join(html.tag("td", cell, "rv-narrow rv-left") for cell in shown)
        body += f'<tr class="{css}"><th scope="row">{mark}{title}</th>{cells}</tr>'
    return (
        '<div class="rv-table-box" role="region" aria-label="Pinned configurations"><table class="rv-table rv-compare">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
