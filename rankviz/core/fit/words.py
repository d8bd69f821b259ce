"""Says whether a training fits its GPU and what makes it fit: the one source of such sentences, for its own rank."""

from collections.abc import Sequence

from rankviz import units
from rankviz.core.cost.estimate import tight_meaning
from rankviz.core.fit.knobs import Knob
from rankviz.core.fit.limits import Limit, limits
from rankviz.core.fit.remedy import Remedy, remedy
from rankviz.core.fit.setting import Setting

LOWERED = {"r": "a lower rank", "batch": "a smaller batch", "max_length": "a shorter length"}
"""By the option of a limit."""


def fit_in_words(start: Setting) -> str:
    """Whether it fits, with the expected memory; where it may not, what to change."""
    row = start.row
    if start.gpu is None or row.fit is None:
        return "No GPU is selected, so it is not known whether the run fits."
    loading = " while loading" if row.memory.fuller_while_loading else ""
    name, memory = start.gpu.name, units.memory_size(row.memory.fullest)
    if row.fit in ("fits", "tight"):
        return f"r = {start.r} {'fits' if row.fit == 'fits' else 'barely fits'} {name}: {memory} expected{loading}."
    usable = units.memory_size(start.answer.usable_bytes.expected)
    lead = f"r = {start.r} does not fit {name}: {memory} expected{loading}, {usable} usable."
    if row.fit == "uncertain":
        lead = (
            f"Whether r = {start.r} fits {name} is uncertain: {memory} expected{loading}, and the limit of the card is "
            "inside its range."
        )
    known = limits(start)
    return f"{lead} {change_in_words(start, known, remedy(start, known))}"


def change_in_words(start: Setting, known_limits: Sequence[Limit], cure: Remedy, elsewhere: str = "") -> str:
    """What to change, or that nothing need be. elsewhere: a clause on other GPUs."""
    if not cure.needed:
        tight = f", with {tight_meaning(start.assumptions)}" if start.row.fit == "tight" else ""
        return f"It fits without changes{tight}."
    if cure.smallest:
        text = f"Smallest change that makes it fit: {cure.smallest.label} ({_effect(cure.smallest)})."
        return " ".join(filter(None, [text, _not_enough(start, known_limits)]))
    if cure.helps_most:
        short = units.gib(-cure.helps_most.spare.low)
        most = f"{cure.helps_most.label} helps most ({_effect(cure.helps_most)}), but up to {short} are still missing"
    else:
        loading = start.row.memory.fuller_while_loading
        most = "no setting lowers what loading takes" if loading else "no setting is left that lowers it"
    return f"No single change makes it fit: {most}{elsewhere and '; '}{elsewhere}."


def _not_enough(start: Setting, known_limits: Sequence[Limit]) -> str:
    """Which of rank, batch and length cannot make it fit by themselves, however low; empty where each can."""
    training = start.question.training
    now = {"r": start.r, "batch": training.per_device_train_batch_size, "max_length": training.fitted_length}
    names = [LOWERED[each.option] for each in known_limits if each.surely is None and now[each.option] > 1]
    if not names:
        return ""
    text = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{text[0].upper()}{text[1:]} alone is not enough."


def _effect(knob: Knob) -> str:
    less = f"{units.memory_size(-knob.device_bytes)} less"
    if knob.seconds is None:
        return less
    if abs(knob.seconds) < 1:
        return f"{less}, same time"
    return f"{less}, {units.duration(abs(knob.seconds))} {'more' if knob.seconds > 0 else 'less'}"
