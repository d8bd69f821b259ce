"""Shows what to train next and what to ship, side by side, and the forecast that this rests on."""

from rankviz.core.forecast.decision import Decision
from rankviz.core.quantity import Range
from rankviz.ui.parts import html
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, exact_span, rounded


def decision_html(decision: Decision) -> str:
    """The two answers said apart, then the forecast in words and as a table."""
    answers = [("What to train", decision.train_sentences), ("What to ship", decision.ship_sentences)]
    columns = "".join(
        f"<div>{html.titled(title, html.paragraphs(first, css='rv-headline') + html.bullet_list(rest))}</div>"
        for title, sentences in answers
        if sentences
        for first, *rest in [sentences]
    )
    forecast = html.bullet_list(decision.forecast.sentences)
    return (
        f'<div class="rv-verdict"><div class="rv-halves">{columns}</div>'
        f"{html.titled('Forecast between the runs', forecast)}"
        f"{html.folded('Forecast by rank', forecast_table(decision))}</div>"
    )


def forecast_table(decision: Decision) -> str:
    """The band at each rank, the one to train in bold."""
    rows = [
        html.Row(
            [
                f"r = {rank.r}",
                rounded(NATS, rank.median, PER_TOKEN),
                _band(rank.low_50, rank.median, rank.high_50),
                _band(rank.low_80, rank.median, rank.high_80),
                "" if rank.measured is None else rounded(NATS, rank.measured, PER_TOKEN),
            ],
            chosen=rank.r == decision.train_rank,
        )
        for rank in decision.forecast.ranks
    ]
    headers = ["Rank", "Estimated loss", "50 % band", "80 % band", "Measured runs"]
    return html.table(headers, rows, label="Forecast by rank, nats per token")


def _band(low: float | None, median: float, high: float | None) -> Cell | str:
    return "" if low is None else Cell(f"{low:.4f} – {high:.4f}", title=exact_span(Range(low, median, high), PER_TOKEN))
