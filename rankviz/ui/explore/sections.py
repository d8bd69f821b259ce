"""The sections below Explore's first screen: one is open at a time, and it is computed when it is opened.

An open section is drawn again when the question changes; the page's script says when (frame.redraw).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.accuracy.report import in_words
from rankviz.export.tables import Table, ranks_table
from rankviz.ui.explore import export as takeaway
from rankviz.ui.explore import frame, probe, studies
from rankviz.ui.explore.fit import APPLIED, Priced, applied, decision_widgets, decisions, priced
from rankviz.ui.explore.pictures import MEMORY_HEIGHT, memory_picture, modules_picture
from rankviz.ui.guide.accuracy import rests_on_html
from rankviz.ui.parts import charts, question
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import clicked, put, wire


def build(api: Api, w: Mapping[str, Any], inputs: Mapping[str, Any], asking: Mapping[str, Any]) -> None:
    """The row of sections.

    Args:
        api: All operations.
        w: The question's widgets.
        inputs: Those of them that make the question.
        asking: The event that sends the question as it stands.
    """
    with gr.Tabs(elem_id="sections", overflow_behavior="wrap"):
        with _tab("All ranks", "ranks"):
            frame.ranks()
            ranks_file = charts.download_widgets("all ranks", elem_id="ranks-download")
        with _tab("Compare", "compare"):
            frame.compare()
        with _tab("Fit and changes", "fit") as fit_tab:
            decided = decision_widgets()
        with _tab("Memory", "memory") as memory_tab:
            memory = chart("Memory by component and rank, estimated", height=MEMORY_HEIGHT, elem_id="memory")
        with _tab("Modules", "modules") as modules_tab:
            modules = chart("Adapter parameters by module and block", height=MEMORY_HEIGHT, elem_id="module-map")
        with _tab("Studies", "studies") as studies_tab:
            published = studies.build(api, w)
        with _tab("Accuracy", "accuracy") as accuracy_tab:
            rests_on = plain(elem_id="rests-on")
        with _tab("Probe", "probe") as probe_tab:
            probing = probe.build(api, w)
        with _tab("Export", "export") as export_tab:
            exported = takeaway.takeaway_widgets(w["take"])
    charts.offer(api, ranks_file, partial(ranks_of, api), inputs)

    def view(function: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        return wire(partial(function, api), inputs=inputs, outputs=outputs, silent=True)

    exporting = view(takeaway.takeaway, exported)
    drawn = (
        (fit_tab, view(decisions, decided)),
        (memory_tab, view(memory_picture, {"chart": memory})),
        (modules_tab, view(modules_picture, {"chart": modules})),
        (studies_tab, published),
        (accuracy_tab, view(resting, {"words": rests_on})),
        (probe_tab, probing),
        (export_tab, exporting),
    )
    for tab, drawing in drawn:
        gr.on([tab.select, frame.redraw(tab.label).submit], **drawing)
    w["take"].change(**exporting)
    _applying(w, decided, asking)


def _tab(label: str, name: str) -> gr.Tab:
    """Its name is in the address while it is open."""
    return gr.Tab(label, id=name, elem_id=f"section-{name}")


def _applying(w: Mapping[str, Any], decided: Mapping[str, gr.HTML], asking: Mapping[str, Any]) -> None:
    """A click on a change or a GPU sets widgets of the question; a price can be edited."""
    settable = {name: w[name] for name in APPLIED}
    own_price = {name: w[name] for name in Priced._fields}

    # Closures, since Gradio finds gr.EventData by the function's own type hints and loses it in a partial.
    def apply(event: gr.EventData) -> dict[Any, Any]:
        return put(applied(event), settable)

    def set_price(prices: str, gpu: str, event: gr.EventData) -> dict[Any, Any]:
        return put(priced(prices, gpu, event)._asdict(), own_price)

    for changeable in ("knobs", "cards"):
        # Once more when all widgets are set: the first that changes asks before the others are.
        decided[changeable].select(apply, None, list(settable.values()), **clicked()).then(**asking)
    decided["cards"].input(set_price, [w["prices"], w["gpu"]], list(own_price.values()), **clicked())


class Resting(NamedTuple):
    words: str


def resting(api: Api, **values: Any) -> Resting:
    """What the estimate rests on, and the measured rows most like it."""
    every_rank = question.ask(values)
    rows = api.estimates.rests_on(every_rank, values["r"]).rows
    return Resting(rests_on_html(rows, in_words(api.estimates.estimate(every_rank).basis)))


def ranks_of(api: Api, **values: Any) -> Table:
    """The table of ranks with all numbers, for a file."""
    answer = api.estimates.estimate(question.ask(values))
    return ranks_table(answer.estimate, answer.basis)
