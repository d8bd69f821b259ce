"""The lead in sentences: what the nearest published line says of the recommended rank, and how sure that makes it."""

from rankviz.core.advice.advice import Advice
from rankviz.core.advice.lead import ENOUGH_RANKS, Lead, line_of
from rankviz.core.forecast.words import UNIT_WORDS
from rankviz.core.lora.targets import listed
from rankviz.core.studies.findings import TOLERANCE
from rankviz.core.studies.lines import TaskKind
from rankviz.units import rounded_percent as percent

KINDS: dict[TaskKind, str] = {
    "simple": "simple tasks",
    "instruction": "instruction tuning",
    "complex": "complex tasks",
    "pretraining": "continued pretraining",
    "rl": "reinforcement learning",
}
NO_MORE_THAN = 0.1
"""Shortfalls are written to this step."""
UNITS = {"loss": UNIT_WORDS["percent_of_loss"], "score": UNIT_WORDS["points"]}


def lead_sentence(lead: Lead, r: int) -> str:
    """ "r = 16 ended 0.8 % of the loss short of the best rank, r = 128, in the nearest study: …", without a full
    stop."""
    not_run = "" if r in lead.line.ranks else f", which did not run r = {r}"
    return f"{result_words(lead, r)} in the nearest study{_passing(lead)}{not_run}: {who(lead)}"


def _passing(lead: Lead) -> str:
    """Among which it is the nearest, where a study of the same model is nearer."""
    if lead.passed is None:
        return ""
    if not lead.passed.same_task:
        return " of this kind of task (that of the same model is on another kind)"
    ran = listed(map(str, line_of(lead.passed).ranks))
    return f" with {ENOUGH_RANKS} ranks or more (that of the same model ran r = {ran} only)"


def result_words(lead: Lead, r: int) -> str:
    """What the line reached at a rank, or at the ranks next to it where that one was not run."""
    best, unit = lead.line.best.rank, UNITS[lead.metric]
    worse = [reading for reading in lead.at(r) if reading.r != best]
    if not worse:
        highest = ", the highest that it ran," if best == lead.line.ranks[-1] else ""
        return f"r = {best} was the best rank of {listed(map(str, lead.line.ranks))}{highest}"
    if all(reading.short < NO_MORE_THAN / 2 for reading in worse):
        ranks = " and ".join(f"r = {reading.r}" for reading in worse)
        return f"{ranks} came within {NO_MORE_THAN:g} {unit} of the best rank, r = {best},"
    each = " and ".join(f"r = {reading.r} ended {reading.short:.1f} {unit}" for reading in worse)
    return f"{each} short of the best rank, r = {best},"


def who(lead: Lead) -> str:
    """The study, its base and why it is near, its data, and who tuned what."""
    study, near = lead.line.study, lead.near
    parts = [near.why[0] if near.same_model else "the same family"]
    if not near.same_task:
        parts.append(f"another kind of task: {KINDS[study.task_kind]}")
    about = [f"{study.label} on {lead.line.model.base_model.rsplit('/', 1)[-1]} ({', '.join(parts)})"]
    if study.examples:
        about.append(f"{study.examples:,} examples")
    return ", ".join((*about, study.learning_rate_label))


def needed_sentence(advice: Advice) -> str:
    """Which higher rank the nearest line needed, and when to choose it; "" where the recommended rank was enough, or
    where the line does not speak for this rank."""
    lead = advice.findings.lead
    if advice.needed is None or not lead.speaks_for_rank:
        return ""
    had, trained = advice.data.examples, lead.line.study.examples
    came = f"r = {advice.needed} came within {percent(TOLERANCE)} there"
    if had is not None and trained is not None and had < trained:
        return f"{came}, with more examples than your {had:,}."
    return f"{came}: choose it if you have as much data."


def sure_sentence(advice: Advice) -> str:
    """How sure the recommendation is, in one short sentence."""
    lead, similar = advice.findings.lead, advice.findings.similar
    if advice.confidence == "rule of thumb":
        return "A rule of thumb: no published sweep is similar in both model and kind of task."
    if advice.confidence == "well supported":
        return "Well supported: the same model and kind of task, though with other data and one run per rank."
    if lead is None:
        study = similar.line.study
        return f"Supported: {study.label} is similar in size and kind of task, with the {study.learning_rate_label}."
    if not lead.line.study.learning_rate_tuned_per_rank:
        return "Supported, but with one learning rate a difference between ranks is partly their step size."
    limits = [
        text
        for text, holds in (
            ("another model", lead.near.same_model),
            ("another kind of task", lead.near.same_task),
            (f"no rank above {lead.line.ranks[-1]}", lead.line.ranks[-1] >= advice.r),
        )
        if not holds
    ]
    known = "" if limits else "the same model and kind of task, but "
    limits.append("other data, one run per rank")
    if advice.needed is None:
        return f"Supported, but: {', '.join(limits)}."
    missed = f"the study needed r = {advice.needed} for {percent(TOLERANCE)}"
    return f"How sure: {known}{', '.join(limits)}, and {missed}."


def lead_sentences(advice: Advice) -> tuple[str, ...]:
    """What comes after the main reason: the rank that the lead needed, and how sure the advice is."""
    return tuple(filter(None, (needed_sentence(advice), sure_sentence(advice))))
