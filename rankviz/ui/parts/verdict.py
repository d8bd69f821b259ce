"""Shows a sweep's verdict: its answers, all its sentences, and how far each rank is above the best."""

from collections.abc import Sequence

from rankviz.figures import verdict_figure, verdict_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.verdict import Answer, Borrowed, Verdict, sentences

EMPTY = "No verdict yet. A verdict needs finished runs."


def summary_html(answers: Sequence[Answer]) -> str:
    """The answers side by side, each with its sentence; nothing where there is none."""
    if not answers:
        return ""
    return html.figures([html.Figure(each.about, _value(each), each.sentence) for each in answers])


def _value(answer: Answer) -> html.Cell:
    """With the exact size of the file on hover."""
    return html.Cell(answer.value, title="" if answer.file_bytes is None else html.exact(answer.file_bytes, "bytes"))


def verdict_html(verdict: Verdict | None, borrowed: Borrowed | None = None) -> str:
    """The first sentence large, the others under it.

    Args:
        verdict: Of a sweep or of a table.
        borrowed: The noise of other sweeps, where this one has none of its own.
    """
    if verdict is None:
        return html.paragraphs(EMPTY, css="rv-empty")
    first, *rest = sentences(verdict, borrowed)
    return f'<div class="rv-verdict">{html.paragraphs(first, css="rv-headline")}{html.bullet_list(rest)}</div>'


def verdict_chart(verdict: Verdict | None, *, height: int = 260) -> str:
    """The same as a figure, with its data as CSV."""
    info = verdict_info(verdict)
    return chart_value(verdict_figure.drawing(info, height=height), info.rows, file="verdict", source=info.source)
