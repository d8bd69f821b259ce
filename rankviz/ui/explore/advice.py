"""Shows the recommendation in a small card: settings, one reason, how sure; everything else is folded below."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rankviz.api.advice import AdviceAnswer
from rankviz.core.advice.advice import Advice
from rankviz.core.advice.use_case import Goal
from rankviz.core.advice.words import (
    Reason,
    confidence_in_words,
    forecast_sentence,
    main_sentences,
    rank_in_words,
    rate_in_words,
    reasons,
    would_change,
)
from rankviz.core.cost.estimate import Estimate
from rankviz.core.fit.changes import Setting
from rankviz.core.fit.decide import fit_in_words
from rankviz.core.quantity import by_level
from rankviz.ui.parts import html
from rankviz.units import counted

SENTENCE_END = r"(?<=\.) (?=[A-Za-z])"
"""Between two sentences: a decimal point has no space behind it."""


def goal_of(values: Mapping[str, Any]) -> Goal:
    """What the widgets say of the use case; the core checks it."""
    return Goal(
        use_case=values["use_case"],
        examples=values["examples"],
        example_tokens=values["example_tokens"],
        forgetting=bool(values["forgetting"]),
    )


def card(answer: AdviceAnswer, estimate: Estimate | None, r: int) -> str:
    """The recommendation beside the chart.

    estimate: of the question as it stands, with its notes on this model and these targets; None for a model that cannot
    be read. r: the selected rank.
    """
    advice = answer.advice
    warnings = by_level(estimate.notes)[0] if estimate else ()
    warning = _first(warnings)
    more = len(warnings) - 1
    details = f"Details and {counted(more, 'more warning')}" if more > 0 else "Details"
    return (
        f'<div class="rv-advice"><h2>{escape(title(advice, r))}</h2>{html.named_values(settings(advice))}'
        f"{html.paragraphs(' '.join(_short(answer, bool(warning))), warning, css='')}"
        f"{html.folded(details, _details(answer, estimate, r), name='details')}</div>"
    )


def _short(answer: AdviceAnswer, has_warning: bool) -> Sequence[str]:
    """At most three sentences, a warning among them, which takes the place of the least urgent one."""
    reason, rate, file = main_sentences(answer.advice)
    own = answer.own
    return (rate, own or reason) if has_warning else (reason, rate, own or file)


def _first(warnings: Sequence[str]) -> str:
    """The first sentence of the first warning; all of it is in the details."""
    return f"Warning: {re.split(SENTENCE_END, warnings[0], maxsplit=1)[0]}" if warnings else ""


def title(advice: Advice, r: int) -> str:
    """The recommended rank beside the selected one."""
    low, high = advice.case.r_range or (advice.r, advice.r)
    return f"Recommended: {rank_in_words(advice)}{' (selected)' if low <= r <= high else f' (selected: r = {r})'}"


def settings(advice: Advice) -> Sequence[tuple[str, str]]:
    """Alpha, learning rate and targets, as names and values."""
    return (
        ("alpha", "r" if advice.case.r_range else f"{advice.lora_alpha}"),
        ("Learning rate", rate_in_words(advice)),
        ("Targets", "all linear layers"),
    )


def _details(answer: AdviceAnswer, estimate: Estimate | None, r: int) -> str:
    advice = answer.advice
    why = "".join(f"<li>{_reason(reason)}</li>" for reason in reasons(advice))
    warnings, notes = by_level(estimate.notes) if estimate else ((), ())
    costs = [fit_in_words(Setting.of(estimate, r, answer.setting.assumptions))] if estimate else []
    return "".join(
        (
            html.titled("Warnings", html.bullet_list(warnings)) if warnings else "",
            html.paragraphs(
                *costs,
                confidence_in_words(advice),
                forecast_sentence(advice, answer.forecast),
                css="",
            ),
            html.titled("Reasons", f"<ul>{why}</ul>"),
            html.titled("What would change the recommendation", html.bullet_list(would_change(advice))),
            html.titled("Notes", html.bullet_list(notes)) if notes else "",
        )
    )


def _reason(reason: Reason) -> str:
    source = escape(reason.source)
    if reason.url.startswith("https://"):
        source = f'<a href="{escape(reason.url)}" target="_blank" rel="noopener">{source}</a>'
    return f'{escape(reason.text)} <span class="rv-source">{source}</span>'
