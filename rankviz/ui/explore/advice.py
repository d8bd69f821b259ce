"""The advice card: what to take in one sentence, how sure, and folded below it why and what would change it."""

from collections.abc import Mapping
from html import escape
from typing import Any

from rankviz.core.advice.use_case import Goal
from rankviz.core.advice.words import chosen_in_words
from rankviz.ui.parts import html


def goal_of(values: Mapping[str, Any]) -> Goal:
    """What the widgets say of the use case; the core checks it."""
    return Goal(
        use_case=values["use_case"],
        examples=values["examples"],
        example_tokens=values["example_tokens"],
        forgetting=bool(values["forgetting"]),
    )


def card(advice: Mapping[str, Any], said: Mapping[str, Any], r: int) -> str:
    """advice: as Api.advise returns it; said: the estimate, with what to know about this model and these targets."""
    beside = " ".join((advice["fit_in_words"], chosen_in_words(said, r, advice["r"])))
    why = "".join(f"<li>{_reason(reason)}</li>" for reason in advice["reasons"])
    folded = f"<ul>{why}</ul>" + html.titled("What would change it", html.bullet_list(advice["would_change"]))
    return (
        f'<div class="rv-advice"><p><b>{escape(advice["take"])}</b>: {escape(advice["because"])}.</p>'
        f"<p>{escape(beside)}</p>"
        f"{html.paragraphs(advice['confidence_in_words'])}"
        f"{html.folded('Why, and what would change it', folded)}{html.bullet_list(said['notes'])}</div>"
    )


def _reason(reason: Mapping[str, str]) -> str:
    source = escape(reason["source"])
    if reason["url"].startswith("https://"):
        source = f'<a href="{escape(reason["url"])}" target="_blank" rel="noopener">{source}</a>'
    return f'{escape(reason["text"])} <span class="rv-source">{source}</span>'
