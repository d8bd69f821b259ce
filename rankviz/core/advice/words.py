"""The advice in sentences: the recommendation, its reasons with sources, and how well such advice did in the past."""

from collections.abc import Iterable
from typing import NamedTuple

from rankviz import units
from rankviz.core.advice.advice import FIRST_RANK, Mean, RankAdvice, Record
from rankviz.core.advice.use_case import QLORA, REGRET, UNSLOTH, RankRule
from rankviz.core.cost.estimate import Estimate
from rankviz.core.forecast.bands import HEADING, UNIT_WORDS, Forecast, points_scale
from rankviz.core.lora.targets import listed
from rankviz.core.studies.lines import Line, Near, Study, TaskKind
from rankviz.units import counted

KINDS: dict[TaskKind | str, str] = {
    "simple": "simple tasks",
    "instruction": "instruction tuning",
    "complex": "complex tasks",
    "pretraining": "continued pretraining",
    "all": "tasks of every kind",
}
CAPACITY_SOURCE = f"{REGRET}; Allen-Zhu and Li 2024, arXiv 2404.05405"
CAPACITY_URL = "https://thinkingmachines.ai/blog/lora/"
RECORD_SOURCE = "RankViz, docs/forecast.md"
BY_TASK = "The recommendation goes by task, on average over publications; yours may differ."
LOW, HIGH = 8, 64
"""Ranks between which costs and quality are compared in one sentence each."""
FEW_EPOCHS = 3
"""Most epochs that Unsloth's guide recommends."""
FILE_WORDS = {
    16: "Choose r = 32 if the file may be twice as large.",
    32: "Choose r = 16 if the file must be small, r = 64 if its size does not matter.",
    64: "Choose r = 32 if the file must be smaller.",
}


class Reason(NamedTuple):
    """One reason for the advice. name: "rule", "nearest", "capacity", "rate", "targets", "forgetting" or "data"."""

    name: str
    text: str
    source: str
    url: str = ""


def take(advice: RankAdvice) -> str:
    """Return the recommended settings as a sentence without a full stop."""
    low, high = advice.case.r_range or (advice.r, advice.r)
    rank, alpha = (f"{low} to {high}", "r") if low < high else (advice.r, advice.lora_alpha)
    return f"Recommended: r = {rank}, alpha = {alpha}, learning rate {rate_in_words(advice)}, all linear layers"


def rate_in_words(advice: RankAdvice) -> str:
    """Return the learning rate to start with, and the range of the best rates: "3e-4 (3e-4 to 1e-3 did best)"."""
    span, start = _best_rates(advice), rate_text(advice.learning_rate)
    return start if span in ("", start) else f"{start} ({span} did best)"


def _best_rates(advice: RankAdvice) -> str:
    return " to ".join(dict.fromkeys(map(rate_text, (advice.rates.low, advice.rates.high)))) if advice.rates else ""


def because(advice: RankAdvice) -> str:
    """Return the main reason in at most 30 words, without a full stop."""
    if ends := advice.case.r_range:
        so = f"so r = {advice.r}, the middle of {ends[0]} to {ends[1]}"
        return f"studies disagree, {so}: in some r = 1 matched r = 256, in one r = 64 and above mostly collapsed"
    (own, kind), record, r = _kinds(advice), advice.record, advice.r
    lead = f"on {KINDS[own]}" if kind == own else f"the default for {KINDS[own]}"
    lead = f"halved from {advice.case.r} to forget less" if r < advice.case.r else lead
    gained, more = f"few publications ran it and r = {r // 2}", f"few ran r = {2 * r}"
    if gain := record.gain(kind, r // 2):
        gained = f"it averaged {_points(gain)} than r = {r // 2} ({counted(gain.publications, 'publication')})"
    if gain := record.gain(kind, r):
        proven = gain.low > 0 and round(gain.mean, 1) > 0
        adds = f"{gain.mean:.1f}" if proven else "nothing proven"
        more = f"r = {2 * r} adds {adds} ({gain.publications}) at twice the file"
    return f"{lead}: {gained}; {more}"


def _kinds(advice: RankAdvice) -> tuple[str, str]:
    """Return the kind of task, and "all" instead of it where too few of its publications ran the ranks next to r."""
    own, record, r = (*advice.case.task_kinds, "all")[0], advice.record, advice.r
    return own, own if record.gain(own, r // 2) or record.gain(own, r) else "all"


def confidence(advice: RankAdvice) -> str:
    """Return "medium" where publications on this kind of task found half of the rank worse and twice of it no better,
    by their 90 % intervals, else "low": only own runs tell the rank that a model needs."""
    below, above = (advice.record.gain(_kinds(advice)[0], r) for r in (advice.r // 2, advice.r))
    return "medium" if below and above and below.low > 0 >= above.low else "low"


def what_rank_changes(estimate: Estimate) -> str:
    """Return a sentence on what grows from r = LOW to r = HIGH, which the estimate must have."""
    low, high = (next(rank for rank in estimate.ranks if rank.r == r) for r in (LOW, HIGH))
    times, memory = high.adapter_bytes / low.adapter_bytes, high.memory.device - low.memory.device
    change = f"{'falls ' if memory < 0 else ''}by {units.memory_size(abs(memory))}"
    text = f"From r = {LOW} to r = {HIGH} the file grows {times:.2g} times and memory {change}"
    if low.duration and high.duration and low.fit != "does_not_fit":
        share = high.duration.total.expected / low.duration.total.expected - 1
        more = "hardly" if abs(share) < 0.05 else units.rounded_percent(share, 0)
        text += f"; {more} more time{' and money' if high.usd else ''}"
    if high.fit != "does_not_fit":
        return f"{text}."
    return f"{text}; {'neither fits' if low.fit == high.fit else f'r = {HIGH} does not fit'} {estimate.gpu.name}."


def _points(gain: Mean) -> str:
    return f"{abs(gain.mean):.1f} points {'less' if round(gain.mean, 1) < 0 else 'more'}"


def main_sentences(advice: RankAdvice) -> tuple[str, str, str]:
    """Return the main reason, advice to tune the learning rate before the rank, and advice on file size."""
    reason = because(advice)
    file = "Train more than one rank if you can." if advice.case.r_range else FILE_WORDS[advice.r]
    return f"{reason[0].upper()}{reason[1:]}.", rate_first(advice), file


def rate_first(advice: RankAdvice) -> str:
    low, high = map(rate_text, advice.learning_rates)
    return f"Tune the learning rate before the rank: train r = {FIRST_RANK} at {low} and at {high}."


def confidence_in_words(advice: RankAdvice) -> str:
    """Return a sentence on the advice's success for left-out publications. The Guide compares advice with fixed
    ranks."""
    if advice.case.r_range:
        return HEADING
    ours = advice.record.regret("advice").score
    return (
        f"{HEADING} {BY_TASK} Over {ours.publications} publications that ran r = 16 or less and r = 64 or more, each "
        f"left out in turn, the recommended rank scored {ours.mean:.2f} points less than the best tested rank (90 % "
        f"interval {ours.low:.2f} to {ours.high:.2f})."
    )


def rule_evidence(record: Record, rule: RankRule) -> str:
    """Return a sentence on what published scores show about one line of the rule of thumb."""
    r, task = rule.r, KINDS[rule.kind]
    if not (gain := record.gain(rule.kind, r)):
        few = counted(ran, "publication") if (ran := record.ran(rule.kind, r)) else "no publication"
        return f"Not measured: on {task}, {few} ran both r = {r} and r = {2 * r}."
    known = "Too low on average" if gain.low > 0 else "No clear gain from a higher rank"
    interval = f"{gain.low:.1f} to {gain.high:.1f}".replace("-0.0", "0.0").replace("-", "−")
    return (
        f"{known}: on {task}, r = {2 * r} scored on average {_points(gain)} than r = {r} in "
        f"{counted(gain.publications, 'publication')} (90 % interval {interval})."
    )


def reasons(advice: RankAdvice) -> Iterable[Reason]:
    """Yield the rule of thumb with its evidence, the nearest studies, and what matters more than the rank."""
    case, rule, targets, retention = advice.case, advice.case.rule, advice.record.targets, advice.retention
    if not case.r_range:
        text = f"Rule of thumb: r = {rule.label} for {rule.use[0].lower()}{rule.use[1:]}."
        yield Reason("rule", f"{text} {rule_evidence(advice.record, rule)}", f"{rule.source}; {RECORD_SOURCE}")
    for near in advice.shown:
        yield Reason("nearest", _nearest(near, advice), *_cited(near.line.study))
    for study in advice.other_studies:
        yield Reason("nearest", f"{study.label}: {study.caveat}", *_cited(study))
    if advice.capacity:
        yield Reason("capacity", capacity_in_words(advice), CAPACITY_SOURCE, CAPACITY_URL)
    text = rate_first(advice)
    if rates := advice.rates:
        text += f" Best rates tried for {rates.of} at r = {listed(map(str, rates.ranks))}: {_best_rates(advice)}."
    yield Reason("rate", text, case.learning_rate_source)
    text = "Put adapters on all linear layers, attention and MLP: a higher rank on fewer modules gains less."
    if targets and 2 * targets["more_by_targets"] > targets["comparisons"]:
        text += (
            f" In {targets['more_by_targets']} of {targets['comparisons']} published comparisons, wide targets at the "
            "smallest rank were better than narrow ones at their best rank."
        )
    yield Reason("targets", text, f"{QLORA}; {REGRET}")
    if retention and advice.goal.forgetting:
        text = (
            f"In {retention.count} of {retention.comparisons} published trainings the smallest rank kept more of the "
            "base's abilities than the largest."
        )
        yield Reason("forgetting", text, *_cited(retention.line.study))
    if (advice.data.epochs or 0) > FEW_EPOCHS:
        text = f"Each example is seen {advice.data.epochs:,.1f} times: more examples matter more than the rank here."
        yield Reason("data", text, f"{UNSLOTH} (one to three epochs)")


def _cited(study: Study) -> tuple[str, str]:
    return study.citation, study.source or ""


def _nearest(near: Near, advice: RankAdvice) -> str:
    """Return a sentence on the result of the recommended rank in a near study, or of every rank where a range is
    recommended. The study's last line with adapters on attention and MLP is used, else its last line."""
    line = ([line for line in near.lines if line.first.facet == "attention and mlp"] or near.lines)[-1]
    equal = advice.equal_ranks.get(line.study.study_id, {}).get(line.best.rank)
    r = max(1, round(advice.r * line.best.rank / equal)) if equal else advice.r
    ranks = ", ".join(f"r = {point.rank} reached {point.value:g}" for point in line.points)
    noise = f" ± {line.best.standard_error:g}" if line.best.standard_error else ", one run each"
    length = f", {line.first.duration}" if line.first.duration else ""
    return (
        f"{near.line.study.label}, {near.line.model.base_model} ({near.in_words}){length}: "
        f"{ranks if advice.case.r_range else result_words(line, r)}. The best value is {line.best.value:g} "
        f"{metric_in_words(line)}{noise}; {line.study.learning_rate_label}."
        f"{f' By parameters, r = {advice.r} here is r = {r} in that study.' if equal else ''}"
    )


def result_words(line: Line, r: int) -> str:
    """Return "r = 16 ended 0.8 % of the loss short of the best rank, r = 128", or for an untested r its neighbours."""
    best, loss = line.best, line.first.is_loss
    unit = UNIT_WORDS["percent_of_loss" if loss else "points"]
    scale = points_scale(line.first.metric, [point.value for point in line.points])
    below, above = [p for p in line.points if p.rank < r][-1:], [p for p in line.points if p.rank > r][:1]
    near = [p for p in line.points if p.rank == r] or [*below, *above]
    gaps = {p.rank: 100 * line.short_of_best(p.value) if loss else scale * abs(best.value - p.value) for p in near}
    ended = [f"r = {rank} ended {gap:.1f} {unit}" for rank, gap in gaps.items() if rank != best.rank]
    not_run = "" if r in line.ranks else f"; r = {r} was not run"
    if not ended:
        return f"r = {best.rank} was the best rank of {listed(map(str, line.ranks))}{not_run}"
    return f"{' and '.join(ended)} short of the best rank, r = {best.rank}{not_run}"


def metric_in_words(line: Line) -> str:
    better = "higher" if line.first.higher_is_better else "lower"
    return f"{line.first.metric.replace('_', ' ')} ({better} is better)"


def capacity_in_words(advice: RankAdvice) -> str:
    """Return a sentence on how many tokens the adapter can hold; this does not change the recommended rank."""
    cap = advice.capacity
    data = "The size of your data is not known."
    if cap.tokens is not None:
        of = "Your data" if advice.data.examples is not None else "No data is given: the assumed training"
        most = "at most " if cap.at_most else ""
        filled = "under 1 %" if cap.filled < 0.01 else f"{100 * cap.filled:.0f} %"
        data = f"{of} has {most}{units.count(cap.tokens)} tokens, {filled} of that."
    return (
        f"Capacity at r = {cap.r}: {units.count(cap.parameters)} parameters hold what about "
        f"{units.count(cap.holds_tokens)} tokens can teach. It does not change the recommendation. {data}"
    )


def would_change(advice: RankAdvice) -> tuple[str, ...]:
    """Return sentences on what would change the advice."""
    if advice.case.r_range:
        return ("Your own runs at ranks of this range, judged by the reward: they count more than all studies.",)
    own = (
        "Your own sweep: r = 4 and r = 64 at one fixed alpha (with alpha = r, ranks would also differ in step size), "
        "the learning rate tuned, with one repeat. Its result counts more than all published studies."
    )
    forgetting = ("If the base must keep its earlier abilities: smaller ranks kept more of them.",)
    return own, *(forgetting if advice.retention and not advice.goal.forgetting else ())


def forecast_sentence(forecast: Forecast, *ranks: int) -> str:
    """Return a sentence on the forecast at these ranks."""
    rows = [row for row in forecast.ranks if row.r in ranks]
    if not rows:
        return "There is no quality forecast for reinforcement learning: its few published studies disagree."
    each = (f"r = {row.r} is {row.median:.1f} ({row.low_80:.1f} to {row.high_80:.1f})" for row in rows)
    text = (
        f"Quality in {counted(forecast.lines, 'published line')} (80 % band): {listed(each)} "
        f"{UNIT_WORDS[forecast.unit]} short of r = {forecast.reference_rank}"
        f"{'' if forecast.validated else ' (not validated)'}."
    )
    return text.replace("-0.0", "0.0").replace("-", "−")


def rate_text(rate: float) -> str:
    """Format a learning rate in short form: 0.0002 gives "2e-4"."""
    return f"{rate:.2g}" if rate >= 0.01 else f"{rate:.1e}".replace(".0e", "e").replace("e-0", "e-")
