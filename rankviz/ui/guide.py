"""The Guide tab explains rank, the terms, and how numbers are computed, for the selected model. Filled when opened."""

from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.accuracy.report import AccuracyReport
from rankviz.core.advice.advice import Mean
from rankviz.core.advice.use_case import DEFAULT, LORA, RANK_RULES, USE_CASES
from rankviz.core.advice.words import BY_TASK, rule_evidence
from rankviz.core.forecast.bands import KINDS
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.runs.metric import TOLERANCE_NATS
from rankviz.core.spectrum import TERMS
from rankviz.figures import accuracy_figure
from rankviz.ui.parts import html
from rankviz.ui.parts.html import Cell, Row, rounded
from rankviz.ui.parts.question import ask
from rankviz.ui.parts.widgets import chart, chart_value, plain
from rankviz.ui.wiring import View, wire
from rankviz.units import counted
from rankviz.units import rounded_percent as percent

HEIGHT = 460
WHAT_IT_IS = (
    "LoRA leaves the weights of the base unchanged. Beside each targeted weight matrix it trains two thin matrices, A "
    "with r rows and B with r columns, and adds their product to the weight. A higher rank r can learn a more complex "
    "change; the adapter file grows in proportion, and the table shows what else grows with it in this model."
)
RANGES = (
    "Each source (who measured, with which program) is predicted without its own rows; docs/accuracy.md has them all. "
    "For measurements of your own: `rankviz validate FILE.csv`."
)


def build(api: Api, question: dict[str, Any]) -> dict[str, Any]:
    """Build the tab; return the event that fills it when it is opened. question: Explore's widgets by name."""
    with gr.Column(elem_classes="rv-guide rv-answer"):
        notice = plain()
        content = plain()
        title = "Details: every measurement and every source"
        with gr.Accordion(title, open=False, elem_id="accuracy-details") as fold:
            memory = chart("Peak memory, predicted against measured", height=HEIGHT, elem_id="validation-memory")
            shown = {"memory": memory, "tables": plain(elem_id="accuracy-tables")}
        fold.expand(**wire(lambda: details(api.estimates.accuracy()), inputs={}, outputs=shown))
    return wire(partial(guide, api), inputs=question, outputs={"content": content}, notice=notice)


def guide(api: Api, **values: Any) -> View:
    """Return the tab's content except the accuracy details. values: values of Explore's widgets, by name."""
    paper = html.link(escape(LORA), "https://arxiv.org/abs/2106.09685")
    items = html.markup("terms") + "".join(
        f"<dt>{name} <i>of an adapter</i></dt><dd>{escape(meaning)}</dd>" for name, meaning in TERMS
    )
    parts = {
        "What is a rank?": f'<div class="rv-advice"><p>{WHAT_IT_IS} <span class="rv-under">{paper}</span></p></div>',
        "Choice of rank": f'<div id="rules">{rules_html(api, **values)}</div>',
        "How good is the recommendation?": evidence_html(api),
        "Terms": f'<dl class="rv-how">{items}</dl>',
        "How the numbers are computed": numbers_html(api, use_case=values["use_case"]),
    }
    return View(content="".join(f"<h2>{title}</h2>{part}" for title, part in parts.items()))


def rules_html(api: Api, **values: Any) -> str:
    """Build the table of rank rules with this model's numbers. values: values of Explore's widgets, by name."""
    question = replace(ask(values), ranks=tuple(rule.r for rule in RANK_RULES))
    answer, record = api.estimates.estimate(question), api.advice.record()
    rows = []
    for rule in RANK_RULES:
        rank, case = answer.rank(rule.r), next(case for case in USE_CASES if case.rule is rule)
        cells = [
            Cell(rule.label, sub=f"here r\xa0=\xa0{case.r}{', default' if case.name == DEFAULT else ''}"),
            Cell(rule.use, kind="narrow"),
            Cell(units.count(rank.adapter_parameters), title=f"{rank.adapter_parameters:,}"),
            units.percent(rank.adapter_parameters / answer.estimate.model.total_parameters),
            Cell(units.file_size(rank.adapter_bytes), title=f"{rank.adapter_bytes:,} bytes"),
            rounded(units.memory_size, rank.memory.device, "bytes"),
            Cell(f"{rule.reason} {rule_evidence(record, rule)}", kind="wrap", sub=rule.source),
        ]
        rows.append(Row(cells, chosen=case.name == DEFAULT))
    estimate = answer.estimate
    where = f" on {estimate.gpu.name}" if estimate.gpu else ""
    name = question.model_id if question.model_id in estimate.model.aliases else estimate.model.id
    advised = (
        "Recommended: r = 32 with alpha = r; r = 16 for a quick experiment, a simple task or a small file; r = 64 for "
        f"a complex task or continued pretraining. {BY_TASK} Tune the learning rate first."
    )
    about = f"The rule of thumb with the numbers for {name}{where}, as set on Explore: α = r, dropout 0, bias none."
    headers = ["Rank", "Use", "Trainable", "Share", "Adapter file", "Memory"]
    headers.append("Reason, and what published scores say")
    return html.paragraphs(advised, about) + html.table(headers, rows, label="Rule of thumb", left=2)


def evidence_html(api: Api) -> str:
    """Compare the regret of the recommended rank, of fixed ranks and of the capacity rule on published comparisons."""
    record = api.advice.record()
    ours = record.regret("advice")
    about = (
        "Regret: how much worse the chosen rank ended than the best tested one, on average over publications (90 % "
        f"interval), on lines from r = 16 or less to r = 64 or more: {ours.score.lines} with scores of "
        f"{ours.score.publications} publications, {ours.loss.lines} with losses of {ours.loss.publications}. Each is "
        "left out in turn for the recommended rank, whose rule was found on them all: new ones may do worse. Near full "
        "fine-tuning and continued pretraining are not among them. Scale alpha with r: r = 64 failed most at alpha 16."
    )

    def cell(mean: Mean) -> Cell:
        of = f"{mean.lines} lines, {counted(mean.publications, 'publication')}"
        return Cell(f"{mean.mean:.2f}", title=of, sub=f"{mean.low:.2f} to {mean.high:.2f}")

    rows = []
    for each in record.alternatives:
        name = {"advice": "Recommended here", "capacity": "Capacity rule"}.get(each.rule, f"Always r = {each.rule}")
        more, *ends = (f"{points:.2f}".replace("-0.00", "0.00").replace("-", "−") for points in each.more)
        than_ours = "" if each is ours else Cell(more, sub=" to ".join(ends))
        cells = [name, f"{each.mean_rank:.0f}", cell(each.score), than_ours, cell(each.loss)]
        rows.append(Row(cells, chosen=each is ours))
    headers = ["Choice", "Mean rank", "Scores, points", "More than recommended", "Losses, %"]
    return html.paragraphs(about) + html.table(headers, rows, label="Regret of each choice of rank")


def numbers_html(api: Api, *, use_case: str) -> str:
    """Build the table of numbers with error and method. use_case: a name of core.advice.use_case."""
    unseen = api.estimates.accuracy().left_out
    memory, time, held = unseen.overall, unseen.time, api.studies.left_out(use_case)
    versions = f"PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}"
    forecast = "not known", "no publication of this kind could be left out"
    if held:
        left_out = f"{counted(held.publications, 'publication')} on {KINDS[held.kind]}, each left out in turn"
        forecast = f"{percent(held.inside_80, 0)} of left-out scores inside the band", left_out
    rows = [
        ("Trainable parameters", "exact", "none", f"every model here, compared with {versions}"),
        ("Adapter file", "exact", "none", "compared with saved files"),
        (
            "Memory",
            f"range, ±{percent(memory.mean_half_width)} on average",
            f"{percent(memory.mean_abs_error)} on average; {percent(memory.inside_band)} inside the range",
            f"{memory.rows} published peaks on GPUs, each source predicted without its own",
        ),
        (
            "Time",
            "range",
            f"{percent(time.mean_abs_error)} on average; {percent(time.inside_range)} inside the range",
            f"{time.rows} timings, predicted in the same way",
        ),
        ("Cost", "range", "the error of the time", "hours times a price with provider and date"),
        ("Quality forecast", "80 % band", *forecast),
        ("Held-out loss", "measured", "the noise of a run", "repeat it with other seeds"),
    ]
    cells = [[Cell(name, sub=kind), Cell(error, kind="wrap", sub=compared)] for name, kind, error, compared in rows]
    how = html.markup("how").format(peft=PEFT_VERSION, unsloth=UNSLOTH_VERSION, tolerance=TOLERANCE_NATS)
    table = html.table(["Number", "Error so far"], cells, label="How far off each number has been")
    return table + html.folded("How each number is computed", how)


def details(report: AccuracyReport) -> View:
    """Draw predicted against measured memory for all comparable rows. Below it are the errors of all sources together,
    and of each source predicted without its own rows."""
    unseen = report.left_out
    rows = [score.texts() for score in (*unseen.origins, unseen.overall)]
    cells = [Row([*row.values()], chosen=row is rows[-1]) for row in rows]
    table = html.titled(
        "Sources, each predicted without its own measurements",
        html.table([*rows[0]], cells, label="Error by unseen source"),
    )
    memory = chart_value(accuracy_figure(report, height=HEIGHT), file="validation")
    return View(memory=memory, tables=table + html.paragraphs(RANGES))
