"""Builds the page: a header and six tabs. Its address holds the current tab and settings."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.metric import LOSS, METRICS
from rankviz.errors import RankVizError
from rankviz.ui import endpoints, link
from rankviz.ui.adapter import tab as adapter
from rankviz.ui.explore import tab as explore
from rankviz.ui.explore.start import question_of
from rankviz.ui.guide import tab as guide
from rankviz.ui.parts.controls import address, header, plain
from rankviz.ui.parts.question import DEFAULTS, NO_GPU, prices_of
from rankviz.ui.runs import tab as runs
from rankviz.ui.sweep import tab as sweep
from rankviz.ui.train import badge
from rankviz.ui.train import tab as train
from rankviz.ui.wiring import notice_html, on_any, put, quiet


def build_app(api: Api) -> gr.Blocks:
    with gr.Blocks(
        title="RankViz: what a LoRA rank costs, and what it buys",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, 86400),
    ) as app:
        with gr.Row(elem_classes="rv-top"):
            header()
            running_now = badge.build(api)
        notice = plain(elem_id="address-notice")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Explore", id="explore") as explore_tab:
                exploring = explore.build(api)
            with gr.Tab("Train", id="train") as train_tab:
                training = train.build(api)
            with gr.Tab("Sweep", id="sweep") as sweep_tab:
                sweeping = sweep.build(api)
            with gr.Tab("Runs", id="runs") as runs_tab:
                running = runs.build(api)
            with gr.Tab("Adapter", id="adapter") as adapter_tab:
                adapting = adapter.build(api)
            with gr.Tab("Guide", id="guide") as guide_tab:
                rules = guide.build(api, exploring.question)
        where = address()
        endpoints.publish(api)

        restored = {
            "notice": notice,
            "tabs": tabs,
            "training_sweep": training.sweep_id,
            "sweep": sweeping.sweep_id,
            "metric": sweeping.metric,
            "tolerance": sweeping.tolerance,
            "run": running.chosen,
            "selected_runs": running.selected,
        }

        # A closure, since Gradio finds gr.Request by the function's own type hints and loses it in a partial.
        def load(request: gr.Request) -> dict[Any, Any]:
            result = restore(api, dict(request.query_params))
            return put(result._asdict(), restored) | put(result.question, exploring.question)

        loaded = app.load(load, None, [*restored.values(), *exploring.question.values()], **quiet())
        loaded.then(None, js="() => RankViz.restored()")
        loaded.then(**exploring.fit).then(**exploring.restored)
        loaded.then(**training.draw).then(**training.fill).then(None, js=train.FOLD)
        for event in (running_now.draw, sweeping.draw, running.draw, rules):
            loaded.then(**event)
        named = app.load(adapting.load, None, adapting.loaded, **quiet())
        for event in (adapting.choices, adapting.open, adapting.draw):
            named = named.then(**event)

        tab_widgets = (explore_tab, train_tab, sweep_tab, runs_tab, adapter_tab, guide_tab)
        to = {name: on_any(tab.select) for name, tab in zip(link.TABS, tab_widgets, strict=True)}
        to["guide"].then(**rules)
        to["train"].then(**training.draw)
        to["runs"].then(lambda: gr.Timer(active=True), None, running.timer, **quiet()).then(**running.draw)
        to["sweep"].then(**sweeping.choices).then(lambda: None, None, sweeping.seen, **quiet()).then(**sweeping.draw)
        to["adapter"].then(**adapting.choices)
        for name, chosen in to.items():
            written = link.address({"tab": None if name == "explore" else name})
            chosen.then(None, None, where, js=f"() => [{json.dumps(written)}]")  # at once, so in the order of clicks
            if name != "runs":
                chosen.then(lambda: gr.Timer(active=False), None, running.timer, **quiet())
            if name != "sweep":
                chosen.then(lambda: gr.Timer(active=False), None, sweeping.timer, **quiet())

        measuring = gr.on([exploring.measure.click], **train.measuring(api, training, exploring.question, tabs))
        training.started.then(**running_now.draw)
        opened = running_now.line.select(badge.chosen, None, [training.sweep_id, training.seen, tabs], **quiet())
        measuring.success(**training.draw).then(None, js=train.READY)
        opened.then(**training.draw)
        opened.then(**training.fill)
        for named, done in (
            (training.sweep_id, measuring.success),
            (training.sweep_id, opened.then),
            (training.sweep_id, training.started.success),
            (sweeping.sweep_id, on_any(sweeping.sweep_id.input).then),
        ):
            done(fn=partial(_address_of, "sweep"), inputs=named, outputs=where, **quiet())
        judged = [sweeping.metric, sweeping.tolerance]
        on_any(sweeping.tolerance.input).then(_judged_address, judged, where, **quiet())
        sweeping.judged.then(_judged_address, judged, where, **quiet())
        for shown in adapting.opened:
            shown.then(adapter.address_of, adapting.source, where, **quiet())
        remember_run = {"fn": partial(_address_of, "run"), "inputs": running.chosen, "outputs": where, **quiet()}
        for picked in running.picked:
            picked.then(**remember_run)
        pointed = (exploring.curve, training.curve, training.results, sweeping.curve, sweeping.results)
        for clicked in pointed:
            opened = clicked.select(open_run, None, [running.chosen, running.selected, tabs], **quiet())
            opened.then(**running.draw).then(**remember_run)
    return app


class Restored(NamedTuple):
    """What the address sets."""

    notice: str
    tabs: Any
    question: Mapping[str, Any]
    """By the names of question.DEFAULTS."""
    training_sweep: str
    sweep: Any
    metric: str
    tolerance: str
    run: str
    selected_runs: Sequence[str] | None


def restore(api: Api, params: Mapping[str, str]) -> Restored:
    """The page that the address describes. For a wrong parameter the default is shown, with a notice above the tabs."""
    values, notes = question_of(api, params)
    try:
        api.estimates.own_prices(prices_of(values["prices"]))
    except RankVizError as error:
        notes.append(f"The address contains wrong prices. {error} The prices of the table are shown.")
        values["prices"] = DEFAULTS["prices"]
    gpus = [*(gpu.id for gpu in api.workspace.gpus), NO_GPU]
    if values["gpu"] not in gpus:
        shown = values["gpu"][:40]
        notes.append(f"The address has gpu={shown}, but gpu must be one of {', '.join(gpus)}. The default is shown.")
        values["gpu"] = DEFAULTS["gpu"]
    tab = params.get("tab", "explore")
    if tab not in link.TABS:
        notes.append(f"The address has tab={tab[:40]}, but the tabs are {', '.join(link.TABS)}. Explore is shown.")
        tab = "explore"
    sweep_id, run_id, selected = params.get("sweep", ""), params.get("run", ""), None
    if sweep_id:
        try:
            selected = [run.run_id for run in api.runs.sweep(sweep_id).runs]
        except RankVizError as error:
            notes.append(str(error))
            sweep_id = ""
    if run_id:
        try:
            api.runs.get(run_id)
        except RankVizError as error:
            notes.append(str(error))
            run_id = ""
    metric = params.get("metric", LOSS.key)
    if metric not in METRICS:
        notes.append(
            f"The address has metric={metric[:40]}, but metric must be one of {', '.join(METRICS)}. The default is "
            "shown."
        )
        metric = LOSS.key
    if not sweep_id:
        sweep_id = next((s.sweep_id for s in api.runs.sweeps() if not s.ended), "")
    return Restored(
        notice=notice_html(*notes),
        tabs=gr.Tabs(selected=tab),
        question=values,
        training_sweep=sweep_id,
        sweep=gr.Dropdown(sweep.sweep_choices(api), value=sweep_id or None),
        metric=metric,
        tolerance=params.get("tolerance", sweep.default_tolerance(metric)),
        run=run_id,
        selected_runs=selected,
    )


def open_run(event: gr.EventData) -> tuple[str, None, Any]:
    """A point or a row was clicked: its run, on the tab of runs."""
    return runs.picked(event), None, gr.Tabs(selected="runs")


def _judged_address(metric: str, tolerance: str) -> str:
    """What a sweep is judged by and within."""
    usual = sweep.default_tolerance(metric)
    return link.address(
        {"metric": None if metric == LOSS.key else metric, "tolerance": None if tolerance == usual else tolerance}
    )


def _address_of(name: str, value: str) -> str:
    return link.address({name: value or None})
