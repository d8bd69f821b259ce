"""Why: the rule of thumb, what is published near, capacity, and what matters more than rank, each with its source."""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.core.advice.advice import Advice, Step
from rankviz.core.advice.rules import QLORA, REGRET, UNSLOTH
from rankviz.core.advice.words import enough_in_words, lower_first, near_name, percent, rate_text
from rankviz.core.studies.findings import RankEnough
from rankviz.core.studies.lines import Line, Study, TaskKind
from rankviz.core.studies.nearest import Near

CAPACITY_SOURCE = f"{REGRET}; Allen-Zhu and Li 2024, arXiv 2404.05405"
CAPACITY_URL = "https://thinkingmachines.ai/blog/lora/"
KINDS: dict[TaskKind, str] = {
    "simple": "simple tasks",
    "instruction": "instruction tuning",
    "complex": "complex tasks",
    "pretraining": "continued pretraining",
}
FEW_EPOCHS = 3
"""Unsloth's guide advises one to three."""


class Reason(NamedTuple):
    """One sentence of why. name: rule, evidence, nearest, capacity, forgetting, rate, targets, full or data."""

    name: str
    text: str
    source: str
    url: str = ""


def reasons(advice: Advice) -> tuple[Reason, ...]:
    """Why, the rule first."""
    found, rule = advice.found, advice.case.rule
    said = [Reason("rule", f"Rule of thumb: r = {rule.label} for {lower_first(rule.use)}. {rule.reason}", rule.source)]
    if found.enough:
        said.append(_enough(found.enough, advice.r))
    said += [_nearest(near, advice.r) for near in found.shown]
    said += [_step(step, advice) for step in advice.steps]
    said.append(Reason("capacity", capacity_in_words(advice), CAPACITY_SOURCE, CAPACITY_URL))
    more = (_rate(advice), _targets(advice), _full(advice), _forgetting(advice), _epochs(advice))
    return (*said, *filter(None, more))


def capacity_in_words(advice: Advice) -> str:
    cap = advice.capacity
    holds = (
        f"Capacity at r = {cap.r}: {units.count(cap.parameters)} parameters hold what about "
        f"{units.count(cap.holds_tokens)} tokens can teach (published figures: 2 bits a parameter, 1 bit a token)."
    )
    if cap.tokens is None:
        return f"{holds} How much your data teach is not known: say how many examples there are."
    yours = f"{'at most ' if cap.at_most else ''}{units.count(cap.tokens)}"
    if cap.enough:
        return f"{holds} Yours are {yours}, {_share(cap.filled)} of that."
    more = f"r = {advice.holds_from} would hold them" if advice.holds_from else "no usual rank holds them"
    say = " Give examples and their tokens for a better figure." if cap.at_most else ""
    return f"{holds} Yours are {yours}: {more}. Past its capacity LoRA learns more slowly; there is no wall.{say}"


def _enough(enough: RankEnough, r: int) -> Reason:
    text = enough_in_words(enough, r)
    ranks = ", ".join(str(rank) for rank in enough.ranks)
    kinds = " and ".join(KINDS[kind] for kind in enough.task_kinds) or "the kind of task is not known"
    source, url = _cited(enough.studies)
    return Reason("evidence", f"{text[0].upper()}{text[1:]}. Ranks run: {ranks}; {kinds}.", source, url)


def _nearest(near: Near, r: int) -> Reason:
    """The nearest line in numbers: what the rank nearest to r reached, and what the best did."""
    line = near.lines[-1]
    at = min(line.points, key=lambda point: (max(point.rank / r, r / point.rank), point.rank))
    best = line.best
    known = f" ± {best.standard_error:g}" if best.standard_error else ", one run each"
    if at.rank == best.rank:
        ranks = ", ".join(str(rank) for rank in line.ranks)
        got = f"r = {at.rank} was the best of {ranks}, {best.value:g} {metric_in_words(line)}{known}"
    else:
        got = (
            f"r = {at.rank} reached {at.value:g} {metric_in_words(line)}, {percent(line.short_of_best(at.value))} "
            f"short of the best, {best.value:g} at r = {best.rank}{known}"
        )
    length = f", {line.first.duration}" if line.first.duration else ""
    source, url = _cited((line.study,))
    text = f"{near_name(near)} ({near.in_words}){length}: {got}; {line.study.learning_rate_label}."
    return Reason("nearest", text, source, url)


def metric_in_words(line: Line) -> str:
    better = "higher" if line.first.higher_is_better else "lower"
    return f"{line.first.metric.replace('_', ' ')} ({better} is better)"


def _step(step: Step, advice: Advice) -> Reason:
    if step.why == "evidence":
        line = advice.found.tuned_line
        text = (
            f"{line.study.label} had {line.study.examples:,} examples, no more than you, and {line.model.base_model} "
            f"needed r = {step.after}: raised from {step.before}."
        )
        return Reason("evidence", text, *_cited((line.study,)))
    if step.why == "capacity":
        return Reason(
            "capacity", f"Capacity raised it from r = {step.before} to {step.after}.", CAPACITY_SOURCE, CAPACITY_URL
        )
    kept = advice.found.kept
    text = (
        f"Halved from r = {step.before} for what the base must keep: in {kept.better_at_the_smaller} of "
        f"{kept.comparisons} published trainings the smallest rank kept more of it than the largest."
    )
    return Reason("forgetting", text, *_cited((kept.line.study,)))


def _rate(advice: Advice) -> Reason:
    moved, rates = advice.found.rate_or_rank, advice.found.rates
    text = f"Tune the learning rate before the rank: try {', '.join(map(rate_text, advice.learning_rates))}."
    if moved and moved.rate > moved.rank:
        text += (
            f" It matters more: at {rate_text(moved.reference_learning_rate)} the loss was {percent(moved.rate)} above "
            f"that of the best rate, at the smallest rank {percent(moved.rank)} above that of the best rank (medians "
            f"of {moved.models} models)."
        )
    if rates:
        low, high = rate_text(rates.low), rate_text(rates.high)
        span = low if low == high else f"{low} to {high}"
        text += f" Of the rates tried for {advice.found.rates_of} at r = {rates.r}, {span} did best."
    return Reason("rate", text, advice.case.learning_rate_source)


def _targets(advice: Advice) -> Reason:
    found = advice.found.targets
    text = "Put adapters on all linear layers, attention and MLP: more rank on narrow targets is the worse trade."
    if found and 2 * found.more_by_targets > found.comparisons:
        text += (
            f" In {found.more_by_targets} of {found.comparisons} published comparisons wide targets at the smallest "
            "rank beat narrow ones at their best."
        )
    return Reason("targets", text, f"{QLORA}; {REGRET}")


def _full(advice: Advice) -> Reason | None:
    found = advice.found.full
    if found is None or advice.case.name not in ("near-full", "pretraining"):
        return None
    line = found.line
    text = (
        f"Full fine-tuning stayed ahead of every rank in {found.behind} of {found.comparisons} published trainings "
        f"like this; in {line.study.label} ({line.first.duration or line.first.task}) it reached {line.full.value:g}, "
        f"r = {line.best.rank} {line.best.value:g} {metric_in_words(line)}."
    )
    return Reason("full", text, *_cited((line.study,)))


def _forgetting(advice: Advice) -> Reason | None:
    kept = advice.found.kept
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
    text = f"Each example is seen {epochs:,.1f} times: more examples, or fewer steps, matter more than rank here."
    return Reason("data", text, f"{UNSLOTH} (one to three epochs)")


def _cited(studies: Sequence[Study]) -> tuple[str, str]:
    return "; ".join(dict.fromkeys(study.citation for study in studies)), studies[0].source or ""


def _share(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
