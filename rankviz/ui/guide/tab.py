"""The Guide tab explains rank, the terms, and how numbers are computed, for the selected model. Built when opened."""

from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.advice.rules import SETTINGS
from rankviz.core.spectrum import TERMS
from rankviz.ui.guide import accuracy
from rankviz.ui.guide.numbers import numbers_html
from rankviz.ui.guide.rank import evidence_html, rules_html, what_is_html
from rankviz.ui.guide.sources import linked
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import wire

COLOURS = """
<h2>Colours</h2>
<p class="rv-caption rv-colours">
<span><span class="rv-dot rv-dot-estimated"></span>estimated: a line or a bar</span> &emsp;
<span><span class="rv-dot"></span>measured: a filled marker</span> &emsp;
<span><span class="rv-dot rv-dot-published"></span>published: an open marker, one shape per study</span> &emsp;
<span><span class="rv-dot rv-dot-fast"></span>fast curve: dashed</span> &emsp;
<span><span class="rv-dot rv-dot-chosen"></span>chosen rank: a thin line and a bold row</span></p>
"""


class Guide(NamedTuple):
    rank: str
    rules: str
    evidence: str
    rest: str
    accuracy: str


def guide(api: Api, **values: Any) -> Guide:
    """Everything but the accuracy's details. values: of the question's widgets."""
    of = {"model": values["model"] or "", "use_case": values["use_case"]}
    return Guide(
        rank=_section("What is a rank?", what_is_html()),
        rules=_section("Choice of rank", rules_html(api, **values)),
        evidence=_section("How good is the recommendation?", evidence_html(api)),
        rest=settings_html() + _section("How the numbers are computed", numbers_html(api, **of)),
        accuracy=accuracy.accuracy_html(api.accuracy.shipped()),
    )


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}"


def settings_html() -> str:
    """Each setting, and each measure of an adapter, in two sentences with its source."""
    items = "".join(
        f"<dt>{escape(s.name)} <i>{escape(s.value)}</i></dt><dd>{escape(s.meaning)}{linked(s.source)}</dd>"
        for s in SETTINGS
    )
    items += "".join(
        f"<dt>{term.name} <i>of an adapter</i></dt><dd>{escape(term.meaning)}{linked(term.source)}</dd>"
        for term in TERMS
    )
    return f'<h2>Terms</h2><dl class="rv-how">{items}</dl>'


def build(api: Api, question: dict[str, Any]) -> dict[str, Any]:
    """Returns the event that fills the tab, for when it is opened. question: Explore's widgets."""
    with gr.Column(elem_classes="rv-guide rv-answer"):
        notice = plain()
        outputs = {"rank": plain(), "rules": plain(elem_id="rules"), "evidence": plain(elem_id="rank-evidence")}
        outputs |= {"rest": plain(elem_id="terms"), "accuracy": plain(elem_id="accuracy")}
        accuracy.build_details(api)
        plain(COLOURS)
    return wire(partial(guide, api), inputs=question, outputs=outputs, notice=notice)
