"""An advice in sentences: the recommendation, its confidence, what would change it.

What the nearest published line says is in lead_words.py, the reasons are in reasons.py.
"""

from collections.abc import Mapping, Sequence

from rankviz import units
from rankviz.core.advice.advice import Advice
from rankviz.core.advice.lead_words import lead_sentence, lead_sentences
from rankviz.core.advice.rules import RANK_RULES
from rankviz.core.cost.estimate import RankEstimate
from rankviz.core.studies.findings import TOLERANCE, RankEnough
from rankviz.core.studies.lines import Line
from rankviz.core.studies.nearest import Near
from rankviz.units import rounded_percent as percent

HIGHEST_SWEPT = 1024


def take(advice: Advice) -> str:
    """The recommended settings."""
    return (
        f"Recommended: r = {advice.r}, alpha = {advice.lora_alpha}, learning rate {rate_in_words(advice)}, "
        "all linear layers"
    )


def rate_in_words(advice: Advice) -> str:
    """ "3e-4 (3e-4 to 1e-3 did best)": where to start, and the range that sweeps leave."""
    span = best_rates(advice)
    start = rate_text(advice.learning_rate)
    return start if span in ("", start) else f"{start} ({span} did best)"


def best_rates(advice: Advice) -> str:
    """The best learning rates of the nearest tuned sweep, "" where none tells them."""
    if advice.rates is None:
        return ""
    low, high = rate_text(advice.rates.low), rate_text(advice.rates.high)
    return low if low == high else f"{low} to {high}"


def because(advice: Advice) -> str:
    """The main reason, without a full stop: the nearest published line or, without one, the rule; and what changed the
    rank from its start."""
    lead = advice.findings.lead
    return f"{_moved(advice)}{lead_sentence(lead, advice.r) if lead else general(advice)}"


def main_sentences(advice: Advice) -> tuple[str, ...]:
    """At most three: the main reason, the rank that the nearest line needed, and how sure the advice is."""
    reason = because(advice)
    started = reason if reason.startswith("r = ") else f"{reason[0].upper()}{reason[1:]}"
    return (f"{started}.", *lead_sentences(advice))


def _moved(advice: Advice) -> str:
    moves = {
        "evidence": "raised {} because a study with no more data needed it",
        "capacity": "raised {} for capacity",
        "forgetting": "halved {} to keep more of the base",
    }
    moved = [moves[step.why].format(f"from r = {step.before}") for step in advice.steps]
    return f"the rank is {', then '.join(moved)}; " if moved else ""


def general(advice: Advice) -> str:
    """What the rule of thumb and all tuned sweeps together say, without a full stop."""
    enough, full, case = advice.findings.enough, advice.findings.full, advice.case
    if enough and set(enough.task_kinds[:1]) & set(case.task_kinds):
        return enough_in_words(enough, advice.r)
    if full and case.r == RANK_RULES[-1].r:
        return (
            f"full fine-tuning was better than every rank in {full.behind} of {full.comparisons} similar published "
            "trainings"
        )
    if not enough:
        return f"the rule of thumb for {lower_first(case.rule.use)}"
    return f"the rule of thumb for {lower_first(case.rule.use)}; in other studies, {enough_in_words(enough, advice.r)}"


def enough_in_words(enough: RankEnough, r: int) -> str:
    """ "in 17 of 22 models tuned at each rank, r ≤ 16 came within 0.5 % of the best loss"."""
    text = (
        f"in {enough.at_most(r)} of {enough.models} models tuned at each rank, r ≤ {r} came within "
        f"{percent(enough.tolerance)} of the best loss"
    )
    not_run = enough.not_run.get(r)
    if not_run == 0:
        return text
    above = enough.surely_above(r)
    beside = f"; r ≤ {above} did so in {enough.at_most(above)}" if above else ""
    others = f" in {not_run} of the others" if not_run else ""
    return f"{text} (r = {r} itself was not run{others}{beside})"


def rule_in_words(enough: RankEnough | None, r: int, *, last: bool) -> str:
    """What tuned sweeps show for one line of the rule of thumb, whose last line has no upper end; "" without sweeps."""
    if enough is None:
        return ""
    if not last:
        text = enough_in_words(enough, r)
        return f"{text[0].upper()}{text[1:]}."
    needed = [f"{models} needed r = {rank}" for rank, models in enough.smallest.items() if rank >= r]
    return (
        f"Of {enough.models} models tuned at each rank {' and '.join(needed) or 'none needed as much'} to come within "
        f"{percent(enough.tolerance)} of the best loss."
    )


def confidence_in_words(advice: Advice) -> str:
    lead, similar, near = advice.findings.lead, advice.findings.similar, advice.findings.near
    if lead and lead.is_tuned_loss and advice.confidence != "rule of thumb":
        same = "the same kind of task" if advice.case.task_kinds else "a task that also has full fine-tuning"
        kind = same if lead.near.same_task else "another kind of task"
        return (
            f"{advice.confidence.capitalize()}: {lead.line.study.label} swept {lead.line.model.base_model} "
            f"({lead.near.why[0]}) on {kind}, with the learning rate tuned at each rank. Each of its points is one "
            f"run, and it used other data than yours.{_needed_more(advice)}"
        )
    similar = lead.near if lead and lead.near.same_task else similar
    if similar:
        study = similar.line.study
        return f"Supported: {study.label} is similar ({similar.in_words}), with the {study.learning_rate_label}."
    nearest = f" The nearest study is {near[0].line.study.label} ({near[0].in_words})." if near else ""
    return f"A rule of thumb: no published sweep is similar to this model and this kind of task.{nearest}"


def _needed_more(advice: Advice) -> str:
    """What speaks against the rank."""
    if advice.needed is None:
        return ""
    return f" To come within {percent(TOLERANCE)} of its best loss it needed r = {advice.needed}."


def would_change(advice: Advice) -> tuple[str, ...]:
    """What would change the advice."""
    findings, changes = advice.findings, []
    if findings.lead and findings.lead.is_tuned_loss:
        changes += _needed_elsewhere(advice, findings.lead.line)
    if advice.capacity.enough is not False:
        tokens = units.count(advice.capacity.holds_tokens)
        changes.append(f"More than about {tokens} tokens of new text: r = {advice.r} reaches its capacity there.")
    low, high = max(1, advice.r // 4), min(HIGHEST_SWEPT, advice.r * 4)
    changes.append(
        f"Your own sweep: r = {low}, {advice.r} and {high}, the learning rate tuned at each, three seeds. Its result "
        "counts more than all published studies."
    )
    if not advice.goal.forgetting and findings.kept:
        changes.append("If the base must keep its earlier abilities: smaller ranks kept more of them.")
    return tuple(changes)


def _needed_elsewhere(advice: Advice, line: Line) -> list[str]:
    base, needed = line.model.base_model, line.smallest_within(TOLERANCE).rank
    if needed > advice.r:
        at = next((point for point in reversed(line.points) if point.rank <= advice.r), line.points[0])
        examples = f" ({line.study.examples:,} examples)" if line.study.examples else ""
        return [
            f"As much data as {line.study.label} had{examples}: there {base} at r = {at.rank} was "
            f"{percent(line.short_of_best(at.value))} worse than its best loss, and r = {needed} came within "
            f"{percent(TOLERANCE)}."
        ]
    if needed < advice.r:
        return [f"A limit on the file size: {base} came within {percent(TOLERANCE)} of its best loss at r = {needed}."]
    return []


def chosen_in_words(ranks: Sequence[RankEstimate], r: int, advised: int) -> str:
    """The chosen rank beside the advised one, by what they cost. ranks: the chosen one and others."""
    rows = {rank.r: rank for rank in ranks}
    chosen, other = rows[r], rows.get(advised)
    if r == advised or other is None:
        return f"Selected: r = {r}. {_doubling(rows, r)}."
    file = chosen.adapter_bytes - other.adapter_bytes
    memory = chosen.memory.device - other.memory.device
    larger, more = ("larger", "more") if file > 0 else ("smaller", "less")
    return (
        f"Selected: r = {r}. Its file is {units.file_size(abs(file))} {larger} than that of r = {advised}, and it "
        f"needs {units.memory_size(abs(memory))} {more} memory."
    )


def _doubling(rows: Mapping[int, RankEstimate], r: int) -> str:
    chosen, doubled = rows[r], rows.get(2 * r)
    if doubled is None:
        return f"r = {2 * r} would add about {units.file_size(chosen.adapter_bytes)} to the file"
    file = doubled.adapter_bytes - chosen.adapter_bytes
    memory = doubled.memory.device - chosen.memory.device
    return f"r = {2 * r} would add {units.file_size(file)} to the file and {units.memory_size(memory)} of memory"


def near_name(near: Near) -> str:
    return f"{near.line.study.label}, {near.line.model.base_model}"


def rate_text(rate: float) -> str:
    """0.0002 -> '2e-4'."""
    return f"{rate:.2g}" if rate >= 0.01 else f"{rate:.1e}".replace(".0e", "e").replace("e-0", "e-")


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
