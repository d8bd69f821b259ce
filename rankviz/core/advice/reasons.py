"""Why: the rule of thumb, what is published near, capacity, and what matters more than rank, each with its source."""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.core.advice.advice import Advice, Step
from rankviz.core.advice.lead import Lead, line_of
from rankviz.core.advice.lead_words import KINDS, result_words
from rankviz.core.advice.rules import QLORA, REGRET, UNSLOTH
from rankviz.core.advice.words import best_rates, enough_in_words, lower_first, near_name, rate_text
from rankviz.core.lora.targets import listed
from rankviz.core.studies.findings import RankEnough
from rankviz.core.studies.lines import Line, Study
from rankviz.core.studies.nearest import Near
from rankviz.units import rounded_percent as percent

CAPACITY_SOURCE = f"{REGRET}; Allen-Zhu and Li 2024, arXiv 2404.05405"
CAPACITY_URL = "https://thinkingmachines.ai/blog/lora/"
FEW_EPOCHS = 3
"""Unsloth's guide advises one to three."""


class Reason(NamedTuple):
    """One sentence of why. name: rule, evidence, nearest, capacity, forgetting, rate, targets, full or data."""

    name: str
    text: str
    source: str
    url: str = ""


def reasons(advice: Advice) -> tuple[Reason, ...]:
    """Why: the nearest studies first, then the rule and the counts over all studies."""
    findings, rule = advice.findings, advice.case.rule
    main = [_nearest(near, advice.r) for near in findings.shown]
    main.append(
        Reason("rule", f"Rule of thumb: r = {rule.label} for {lower_first(rule.use)}. {rule.reason}", rule.source)
    )
    if findings.enough:
        main.append(_enough(findings.enough, advice))
    main += [_step(step, advice) for step in advice.steps]
    main.append(Reason("capacity", capacity_in_words(advice), CAPACITY_SOURCE, CAPACITY_URL))
    more = (_rate(advice), _targets(advice), _full(advice), _forgetting(advice), _epochs(advice))
    return (*main, *filter(None, more))


def capacity_in_words(advice: Advice) -> str:
    cap = advice.capacity
    holds = (
        f"Capacity at r = {cap.r}: {units.count(cap.parameters)} parameters hold what about "
        f"{units.count(cap.holds_tokens)} tokens can teach (published figures: {_bits(cap.bits_per_parameter)} per "
        f"parameter, {_bits(cap.bits_per_token)} per token)."
    )
    if cap.tokens is None:
        return f"{holds} The size of your data is not known: give the number of examples."
    of = "Your data" if advice.data.examples is not None else "No data is given: the assumed training"
    yours = f"{of} has {'at most ' if cap.at_most else ''}{units.count(cap.tokens)} tokens"
    if cap.enough:
        return f"{holds} {yours}, {_share(cap.filled)} of that."
    more = f"r = {advice.holds_from} would hold them" if advice.holds_from else "no usual rank holds them"
    better = " Give the number of examples and their tokens for a better figure." if cap.at_most else ""
    return f"{holds} {yours}: {more}. Above its capacity LoRA learns, but more slowly.{better}"


def _bits(value: float) -> str:
    return f"{value:g} bit{'s' * (value != 1)}"


def _enough(enough: RankEnough, advice: Advice) -> Reason:
    text = enough_in_words(enough, advice.r)
    ranks = ", ".join(str(rank) for rank in enough.ranks)
    kinds = " and ".join(KINDS[kind] for kind in enough.task_kinds) or "the kind of task is not known"
    source, url = _cited(enough.studies)
    text = f"{text[0].upper()}{text[1:]}. Ranks run: {ranks}; {kinds}."
    if advice.needed is not None:
        text += f" {advice.findings.lead.line.model.base_model} is not one of them: it needed r = {advice.needed}."
    return Reason("evidence", text, source, url)


def _nearest(near: Near, r: int) -> Reason:
    """A near line in numbers: what r or the ranks next to it reached, and what the best did."""
    line = line_of(near)
    best = line.best
    known = f" ± {best.standard_error:g}" if best.standard_error else ", one run each"
    length = f", {line.first.duration}" if line.first.duration else ""
    result = result_words(Lead(near=near, line=line), r).rstrip(",")
    if r not in line.ranks:
        result += f"; r = {r} was not run"
    source, url = _cited((line.study,))
    text = (
        f"{near_name(near)} ({near.in_words}){length}: {result}. The best value is {best.value:g} "
        f"{metric_in_words(line)}{known}; {line.study.learning_rate_label}."
    )
    return Reason("nearest", text, source, url)


def metric_in_words(line: Line) -> str:
    better = "higher" if line.first.higher_is_better else "lower"
    return f"{line.first.metric.replace('_', ' ')} ({better} is better)"


def _step(step: Step, advice: Advice) -> Reason:
    if step.why == "evidence":
        line = advice.findings.lead.line
        text = (
            f"Raised from r = {step.before}: {line.study.label} had {line.study.examples:,} examples, no more than "
            f"you, and {line.model.base_model} needed r = {step.after}."
        )
        return Reason("evidence", text, *_cited((line.study,)))
    if step.why == "capacity":
        return Reason(
            "capacity",
            f"Raised from r = {step.before} to {step.after} because of the capacity.",
            CAPACITY_SOURCE,
            CAPACITY_URL,
        )
    kept = advice.findings.kept
    text = (
        f"Halved from r = {step.before} because the base must keep its abilities: in {kept.better_at_the_smaller} of "
        f"{kept.comparisons} published trainings the smallest rank kept more of them than the largest."
    )
    return Reason("forgetting", text, *_cited((kept.line.study,)))


def _rate(advice: Advice) -> Reason:
    moved, rates = advice.findings.rate_or_rank, advice.rates
    text = f"Tune the learning rate before the rank: try {', '.join(map(rate_text, advice.learning_rates))}."
    if moved and moved.rate > moved.rank:
        text += (
            f" It matters more: at {rate_text(moved.reference_learning_rate)} the loss was {percent(moved.rate)} above "
            f"the loss at the best rate; at the smallest rank it was {percent(moved.rank)} above the loss at the best "
            f"rank (medians of {moved.models} models)."
        )
    if rates:
        ranks, span = listed(map(str, rates.ranks)), best_rates(advice)
        were = "the best were" if " to " in span else "the best was"
        text += f" Of the rates tried for {advice.rates_of} at r = {ranks}, {were} {span}."
    return Reason("rate", text, advice.case.learning_rate_source)


def _targets(advice: Advice) -> Reason:
    targets = advice.findings.targets
    text = "Put adapters on all linear layers, attention and MLP: a higher rank on fewer modules gains less."
    if targets and 2 * targets.more_by_targets > targets.comparisons:
        text += (
            f" In {targets.more_by_targets} of {targets.comparisons} published comparisons, wide targets at the "
            "smallest rank were better than narrow ones at their best rank."
        )
    return Reason("targets", text, f"{QLORA}; {REGRET}")


def _full(advice: Advice) -> Reason | None:
    full = advice.findings.full
    if full is None or advice.case.name not in ("near-full", "pretraining"):
        return None
    line = full.line
    text = (
        f"Full fine-tuning was better than every rank in {full.behind} of {full.comparisons} similar published "
        f"trainings; in {line.study.label} ({line.first.duration or line.first.task}) it reached {line.full.value:g}, "
        f"r = {line.best.rank} {line.best.value:g} {metric_in_words(line)}."
    )
    return Reason("full", text, *_cited((line.study,)))


def _forgetting(advice: Advice) -> Reason | None:
    kept = advice.findings.kept
    if kept is None or not advice.goal.forgetting:
        return None
    line, small, large = kept.line, kept.line.points[0], kept.line.points[-1]
    full = f", {line.full.value:g} after full fine-tuning" if line.full else ""
    text = (
        f"{line.study.label}, {line.first.duration}: {metric_in_words(line)} was {small.value:g} after "
        f"r = {small.rank}, {large.value:g} after r = {large.rank}{full}."
    )
    return Reason("forgetting", text, *_cited((line.study,)))


def _epochs(advice: Advice) -> Reason | None:
    epochs = advice.data.epochs
    if epochs is None or epochs <= FEW_EPOCHS:
        return None
    text = f"Each example is seen {epochs:,.1f} times: more examples, or fewer steps, matter more than the rank here."
    return Reason("data", text, f"{UNSLOTH} (one to three epochs)")


def _cited(studies: Sequence[Study]) -> tuple[str, str]:
    return "; ".join(dict.fromkeys(study.citation for study in studies)), studies[0].source or ""


def _share(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
