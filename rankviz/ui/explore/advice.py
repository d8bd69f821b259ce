"""Shows the recommendation and its confidence, with the reasons and what would change it folded below."""

from collections.abc import Mapping
from html import escape
from typing import Any

from rankviz.api.advice import AdviceAnswer
from rankviz.core.advice.reasons import Reason, reasons
from rankviz.core.advice.use_case import Goal
from rankviz.core.advice.words import because, chosen_in_words, confidence_in_words, fit_in_words, take, would_change
from rankviz.core.cost.estimate import Estimate
from rankviz.ui.parts import html


def goal_of(values: Mapping[str, Any]) -> Goal:
    """What the widgets say of the use case; the core checks it."""
    return Goal(
        use_case=values["use_case"],
        examples=values["examples"],
        example_tokens=values["example_tokens"],
        forgetting=bool(values["forgetting"]),
    )


def card(answer: AdviceAnswer, estimate: Estimate, r: int) -> str:
    """estimate: of the question as it stands, with its notes on this model and these targets. r: the chosen rank."""
    advice = answer.advice
    beside = f"{fit_in_words(answer.estimate, answer.gpu)} {chosen_in_words(estimate.ranks, r, advice.r)}"
    why = "".join(f"<li>{_reason(reason)}</li>" for reason in reasons(advice))
    changes = html.titled("What would change the recommendation", html.bullet_list(would_change(advice)))
    details = html.folded("Reasons, and what would change the recommendation", f"<ul>{why}</ul>{changes}")
    return (
        f'<div class="rv-advice"><p><b>{escape(take(advice))}</b>: {escape(because(advice))}.</p>'
        f"<p>{escape(beside)}</p>"
        f"{html.paragraphs(confidence_in_words(advice))}{details}{html.bullet_list(estimate.notes)}</div>"
    )


def _reason(reason: Reason) -> str:
    source = escape(reason.source)
    if reason.url.startswith("https://"):
        source = f'<a href="{escape(reason.url)}" target="_blank" rel="noopener">{source}</a>'
    return f'{escape(reason.text)} <span class="rv-source">{source}</span>'
