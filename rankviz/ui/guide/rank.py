"""Explains rank: what it is, the rule of thumb with live numbers, and what published studies say of each rank."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rankviz import units
from rankviz.api import Api
from rankviz.api.estimates import EstimateAnswer
from rankviz.core.advice.rules import LORA, RANK_RULES, RankRule
from rankviz.core.advice.words import enough_in_words, rule_in_words
from rankviz.core.forecast.bands import Forecast, RankForecast
from rankviz.core.studies.findings import RankEnough
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
    answer = api.estimates.estimate(question)
    table = html.table(
        ["Rank", "Use", "Trainable", "Share", "Adapter file", "Memory", "Reason"],
        [_rule_row(rule, answer) for rule in RANK_RULES],
        label="Rule of thumb",
        left=2,
    )
    estimate = answer.estimate
    where = f" on {estimate.gpu.name}" if estimate.gpu else ""
    name = question.model_id if question.model_id in estimate.model.aliases else estimate.model.id
    about = f"Numbers for {name}{where}, with the settings of Explore. α = r or 2r, dropout 0, bias none."
    return html.paragraphs(about) + table


def _rule_row(rule: RankRule, answer: EstimateAnswer) -> Row:
    rank = answer.rank(rule.r)
    return Row(
        cells=[
            rule.label,
            Cell(rule.use + (" (recommended)" if rule.recommended else ""), kind="narrow"),
            Cell(units.count(rank.adapter_parameters), title=f"{rank.adapter_parameters:,}"),
            units.percent(answer.share(rank)),
            Cell(units.file_size(rank.adapter_bytes), title=f"{rank.adapter_bytes:,} bytes"),
            rounded(units.memory_size, rank.memory.device, "bytes"),
            Cell(rule.reason, kind="wrap", sub=rule.source),
        ],
        chosen=rule.recommended,
    )


def evidence_html(api: Api, *, model: str, use_case: str) -> str:
    """What published studies say of each rank of the rule: models for which it was enough, and the shortfall from a
    high rank, in loss and in the score of this use case."""
    enough = api.studies.rank_enough()
    loss = api.forecasts.of(model, use_case, metric="loss")
    score = api.forecasts.of(model, use_case, metric="score")
    rows = [_evidence_row(rule, enough, loss, score) for rule in RANK_RULES]
    about = [f"Loss and score: how much worse than r = {loss.reference_rank}, median and 80 % band."]
    if enough:
        within = percent(enough.tolerance)
        about.insert(0, f"Enough for: models that come within {within} of their best loss at this rank or below.")
    if doubtful := [name for name, band in (("loss", loss), ("score", score)) if not band.validated]:
        about.append(f"Not validated: {' and '.join(doubtful)}.")
    return (
        html.paragraphs(" ".join(about))
        + html.table(["Rank", "Enough for", "Loss, %", "Score, points"], rows, label="Evidence by rank")
        + html.folded("What these columns rest on", html.bullet_list(_basis(enough, loss, score)))
    )


def _evidence_row(rule: RankRule, enough: RankEnough | None, loss: Forecast, score: Forecast) -> Row:
    last = rule is RANK_RULES[-1]
    return Row(
        cells=[rule.label, _enough_cell(enough, rule, last), _band_cell(loss, rule.r), _band_cell(score, rule.r)],
        chosen=rule.recommended,
    )


def _enough_cell(enough: RankEnough | None, rule: RankRule, last: bool) -> Cell | str:
    """The last line of the rule has no upper end, so it is enough for all."""
    if enough is None:
        return "–"
    if last:
        needed = enough.models - enough.at_most(rule.r - 1)
        return Cell(f"{enough.models} of {enough.models}", sub=f"{needed} needed it")
    missing = enough.not_run.get(rule.r, 0)
    return Cell(
        f"{enough.at_most(rule.r)} of {enough.models}",
        title=enough_in_words(enough, rule.r),
        sub=f"{missing} did not run it" if missing else "",
    )


def _band_cell(forecast: Forecast, r: int) -> Cell:
    at = next(rank for rank in forecast.ranks if rank.r == r)
    return Cell(
        _short(at.median),
        title=f"{at.median:.6f} ({at.low_80:.6f} to {at.high_80:.6f}); {at.lines_at_rank} published lines at r = {r}",
        sub=_ends(at),
    )


def _ends(at: RankForecast) -> str:
    return f"80 %: {_short(at.low_80)} to {_short(at.high_80)}"


def _short(value: float) -> str:
    text = f"{value:.1f}"
    return text.replace("-", "−") if float(text) else "0.0"


def _basis(enough: RankEnough | None, loss: Forecast, score: Forecast) -> Sequence[str]:
    lines = []
    if enough is not None:
        lines.append(
            f"Enough: within {percent(enough.tolerance)} of the best loss of that model, over {enough.models} models "
            "whose learning rate was tuned at each rank "
            f"({', '.join(dict.fromkeys(study.label for study in enough.studies))})."
        )
        lines.append(rule_in_words(enough, RANK_RULES[-1].r, last=True))
    return [*lines, *loss.sentences[:2], *score.sentences[:2]]
