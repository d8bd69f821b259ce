"""Shows what published studies let a rank expect: the band, how such bands have held, and where none of them was."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.figures import forecast_figure, forecast_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import notice_html, on_any, wire

HEIGHT = 400
METRIC_CHOICES = [("Score, points", "score"), ("Held-out loss, %", "loss")]


class Shown(NamedTuple):
    figure: str
    words: str


def build(api: Api, w: Mapping[str, Any]) -> dict[str, Any]:
    """The section; returns the event that draws it. w: the question's widgets."""
    plain("<h2>Quality forecast</h2>", elem_id="forecast-title")
    with gr.Row(elem_classes="rv-bar"):
        metric = gr.Dropdown(METRIC_CHOICES, value="score", label="Forecast of", interactive=True, min_width=150)
    figure = chart("Shortfall by rank, from published studies", height=HEIGHT, elem_id="forecast")
    words = plain(elem_id="forecast-words")
    inputs = {name: w[name] for name in ("model", "use_case", "r")} | {"metric": metric}
    drawing = wire(partial(shown, api), inputs=inputs, outputs={"figure": figure, "words": words}, silent=True)
    on_any(*(widget.change for name, widget in inputs.items() if name != "model")).then(**drawing)
    return drawing


def shown(api: Api, *, model: str, use_case: str, r: int, metric: str) -> Shown:
    """The band by rank and its sentences, which stand in a box where the band is not validated."""
    answer = api.forecasts.of(model or "", use_case, metric=metric)
    info = forecast_info(answer, chosen=r)
    figure = chart_value(forecast_figure(info, height=HEIGHT), info.rows, file=f"forecast-{metric}", source=info.source)
    words = html.paragraphs(*answer.sentences) if answer.validated else notice_html(*answer.sentences)
    return Shown(figure, words)
