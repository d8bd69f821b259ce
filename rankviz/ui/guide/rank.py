"""Explains rank: what it is, the rule of thumb with live numbers, and how far choices of rank ended from the best."""

from dataclasses import replace
from typing import Any

from rankviz import units
from rankviz.api import Api
from rankviz.api.estimates import EstimateAnswer
from rankviz.core.advice.advice import Alternative, Mean
from rankviz.core.advice.rules import LORA, RANK_RULES, RankRule
from rankviz.core.advice.words import rule_evidence
from rankviz.ui.guide.sources import linked
from rankviz.ui.parts import html
from rankviz.ui.parts.html import Cell, Row, rounded
from rankviz.ui.parts.question import ask
from rankviz.units import rounded_percent as percent

WHAT_IT_IS = (
    "LoRA leaves the weights of the base unchanged. Beside each targeted weight matrix it trains two thin matrices, A "
    "with r rows and B with r columns, and adds their product to the weight. A higher rank r can learn a more complex "
    "change; the adapter file grows in proportion, and the table shows what else grows with it in this model."
)


def what_is_html() -> str:
    """What a rank is, in three sentences."""
    return f'<div class="rv-advice"><p>{WHAT_IT_IS} {linked(LORA)}</p></div>'


def rules_html(api: Api, **values: Any) -> str:
    """The rule of thumb, each line with this model's numbers. values: of the question's widgets."""
    question = replace(ask(values), ranks=tuple(rule.r for rule in RANK_RULES))
    answer, record = api.estimates.estimate(question), api.advice.record()
    table = html.table(
        ["Rank", "Use", "Trainable", "Share", "Adapter file", "Memory", "Reason, and what published scores say"],
        [_rule_row(rule, answer, rule_evidence(record, rule)) for rule in RANK_RULES],
        label="Rule of thumb",
        left=2,
    )
    estimate = answer.estimate
    where = f" on {estimate.gpu.name}" if estimate.gpu else ""
    name = question.model_id if question.model_id in estimate.model.aliases else estimate.model.id
    advised = (
        "Recommended: r = 32 with alpha = r. r = 16 for a quick experiment, a simple task or a small file; r = 64 for "
        "a complex task, continued pretraining, or if the file size does not matter. Tune the learning rate first."
    )
    about = (
        f"The usual rule of thumb, with the numbers for {name}{where} and the settings of Explore. α = r, dropout 0, "
        "bias none."
    )
    return html.paragraphs(advised, about) + table


def _rule_row(rule: RankRule, answer: EstimateAnswer, published: str) -> Row:
    rank = answer.rank(rule.r)
    return Row(
        cells=[
            Cell(rule.label, sub="default" if rule.recommended else ""),
            Cell(rule.use, kind="narrow"),
            Cell(units.count(rank.adapter_parameters), title=f"{rank.adapter_parameters:,}"),
            units.percent(answer.share(rank)),
            Cell(units.file_size(rank.adapter_bytes), title=f"{rank.adapter_bytes:,} bytes"),
            rounded(units.memory_size, rank.memory.device, "bytes"),
            Cell(f"{rule.reason} {published}".rstrip(), kind="wrap", sub=rule.source),
        ],
        chosen=rule.recommended,
    )


def evidence_html(api: Api) -> str:
    """How far the recommended rank, fixed ranks and the capacity rule ended from the best tested rank of published
    lines."""
    record = api.advice.record()
    ours = record.regret("advice")
    if ours is None:
        return html.paragraphs("Not known: run make forecast.")
    return html.paragraphs(
        "Regret: how much worse the chosen rank ended than the best tested rank, on average over publications (90 % "
        f"interval). For the recommended rank, each of {ours.score.publications} publications with scores and "
        f"{ours.loss.publications} with held-out losses is left out in turn. The rule itself, 16, 32 or 64 by use "
        "case, was found on these publications, so new ones may do worse. The mean rank is geometric. Always r = 64 "
        "failed most where alpha stayed at 16 (RoBERTa on QNLI and RTE): scale alpha with r."
    ) + html.table(
        ["Choice", "Mean rank", "Scores, points", "> 1 point", "Losses, %"],
        [_regret_row(each) for each in record.alternatives],
        label="Regret of each choice of rank",
    )


def _regret_row(each: Alternative) -> Row:
    name = {"advice": "Recommended here", "capacity": "Capacity rule"}.get(each.rule, f"Always r = {each.rule}")
    return Row(
        cells=[
            Cell(name, sub=_publications(each) if each.rule == "capacity" else ""),
            f"{each.mean_rank:.0f}",
            _mean_cell(each.score),
            percent(each.over_one_point, 0),
            _mean_cell(each.loss),
        ],
        chosen=each.rule == "advice",
    )


def _publications(each: Alternative) -> str:
    return f"estimated data and sizes; {each.score.publications} and {each.loss.publications} publications"


def _mean_cell(mean: Mean) -> Cell:
    return Cell(f"{mean.mean:.2f}", sub=f"{mean.low:.2f} to {mean.high:.2f}", title=f"{mean.lines} lines")
