"""An advice in sentences: what to take, how sure, what would change it. Its reasons are advice_reasons.py's."""

from collections.abc import Mapping, Sequence

from rankviz import units
from rankviz.core.advice.advice import Advice
from rankviz.core.advice.rules import RANK_RULES
from rankviz.core.cost.estimate import RankEstimate
from rankviz.core.studies.findings import TOLERANCE, RankEnough
from rankviz.core.studies.nearest import Near


def take(advice: Advice) -> str:
    return (
        f"Take r = {advice.r}, alpha = {advice.lora_alpha}, a learning rate of {rate_text(advice.learning_rate)} to "
        "start with, and all linear layers"
    )


def because(advice: Advice) -> str:
    """The reason nearest to the use case, and what moved the rank from where it began."""
    return f"{_because(advice)}{_moved(advice)}"


def _moved(advice: Advice) -> str:
    moves = {
        "evidence": "raised for as much data",
        "capacity": "raised for capacity",
        "forgetting": "halved to forget less",
    }
    said = [f"{moves[step.why]} from r = {step.before}" for step in advice.steps]
    return f"; {', then '.join(said)}" if said else ""


def _because(advice: Advice) -> str:
    enough, full, case = advice.found.enough, advice.found.full, advice.case
    if enough and set(enough.task_kinds) & set(case.task_kinds):
        return enough_in_words(enough, advice.r)
    if full and case.r == RANK_RULES[-1].r:
        return (
            f"full fine-tuning stayed ahead of every rank in {full.behind} of {full.comparisons} published trainings "
            "like this"
        )
    if not enough:
        return f"the rule of thumb for {lower_first(case.rule.use)}"
    return f"the rule of thumb for {lower_first(case.rule.use)}; elsewhere, {enough_in_words(enough, advice.r)}"


def enough_in_words(enough: RankEnough, r: int) -> str:
    """ "in 17 of 22 models tuned at each rank, r ≤ 16 came within 0.5 % of the best loss"."""
    text = (
        f"in {enough.at_most(r)} of {enough.models} models tuned at each rank, r ≤ {r} came within "
        f"{percent(enough.tolerance)} of the best loss"
    )
    if r in enough.ranks:
        return text
    above = [rank for rank in enough.ranks if rank > r]
    beside = f"; r ≤ {above[0]} did in {enough.at_most(above[0])}" if above else ""
    return f"{text} (r = {r} itself was not run{beside})"


def rule_in_words(enough: RankEnough | None, r: int, *, last: bool) -> str:
    """What tuned sweeps say of one line of the rule of thumb, the last of which has no end; nothing without sweeps."""
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
    tuned, near = advice.found.tuned, advice.found.near
    if tuned and advice.confidence != "rule of thumb":
        kind = "the same kind of task" if tuned.same_task else "another kind of task"
        return (
            f"{advice.confidence.capitalize()}: {tuned.line.study.label} swept {tuned.line.model.base_model} "
            f"({tuned.why[0]}) on {kind}, with the learning rate tuned at each rank. Each of its points is one run, "
            "and your data are not its data."
        )
    if advice.confidence == "supported":
        same = next(n for n in near if n.same_task and (n.same_family or n.similar_size))
        study = same.line.study
        return f"Supported: {study.label} is near ({same.in_words}), but with the {study.learning_rate_label}."
    nearest = f" The nearest study is {near[0].line.study.label} ({near[0].in_words})." if near else ""
    return f"A rule of thumb: no published sweep is near this model and this kind of task.{nearest}"


def would_change(advice: Advice) -> tuple[str, ...]:
    """What would make the advice another one."""
    found, said = advice.found, []
    if found.tuned_line is not None:
        said += _needed_elsewhere(advice)
    if advice.capacity.enough is not False:
        tokens = units.count(advice.capacity.holds_tokens)
        said.append(f"More than about {tokens} tokens of new text: there r = {advice.r} is full.")
    low, high = max(1, advice.r // 4), min(1024, advice.r * 4)
    said.append(
        f"A sweep of your own: r = {low}, {advice.r} and {high}, the learning rate tuned at each, three seeds. It "
        "outweighs all of this."
    )
    if not advice.goal.forgetting and found.kept:
        said.append("If the base must keep what it could do before: smaller ranks kept more of it.")
    return tuple(said)


def _needed_elsewhere(advice: Advice) -> list[str]:
    line = advice.found.tuned_line
    base, needed = line.model.base_model, line.smallest_within(TOLERANCE).rank
    if needed > advice.r:
        at = next((point for point in reversed(line.points) if point.rank <= advice.r), line.points[0])
        examples = f" ({line.study.examples:,} examples)" if line.study.examples else ""
        return [
            f"As much data as {line.study.label} had{examples}: there {base} at r = {at.rank} was "
            f"{percent(line.short_of_best(at.value))} short of its best loss, and r = {needed} came within "
            f"{percent(TOLERANCE)}."
        ]
    if needed < advice.r:
        return [f"A file that must be small: {base} came within {percent(TOLERANCE)} of its best loss at r = {needed}."]
    return []


def fit_in_words(advised: RankEstimate, gpu: str | None) -> str:
    """Whether the advised adapter fits this GPU."""
    if not gpu or advised.fit is None:
        return "No GPU is chosen, so whether it fits is not known."
    memory = units.memory_size(advised.memory.device)
    match advised.fit:
        case "does_not_fit":
            return (
                f"It does not fit {gpu} ({memory} expected), and rank is not the lever: change batch, length or "
                "precision; the decisions below name the smallest such change."
            )
        case "uncertain":
            return f"Whether it fits {gpu} is uncertain: {memory} expected, and the edge of the card lies in its range."
    return f"It {'fits' if advised.fit == 'fits' else 'barely fits'} {gpu}: {memory} expected."


def chosen_in_words(ranks: Sequence[RankEstimate], r: int, advised: int) -> str:
    """The chosen rank beside the advised one, by what they cost. ranks: the chosen one and others."""
    rows = {rank.r: rank for rank in ranks}
    chosen, other = rows[r], rows.get(advised)
    if chosen.fit == "does_not_fit":
        return (
            f"r = {r} does not fit this GPU, and rank is not the lever: {_doubling(rows, r)}, so change batch, length, "
            "precision or targets first."
        )
    if r == advised:
        return f"You have it chosen: {_doubling(rows, r)}."
    if other is None:
        return f"You have r = {r} chosen: {_doubling(rows, r)}."
    file = chosen.adapter_bytes - other.adapter_bytes
    memory = chosen.memory.device - other.memory.device
    more = "more" if file > 0 else "less"
    return (
        f"You have r = {r} chosen: {units.file_size(abs(file))} {more} of a file and "
        f"{units.memory_size(abs(memory))} {more} memory than r = {advised}."
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


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
