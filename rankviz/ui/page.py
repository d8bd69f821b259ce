"""Builds the page: a header and five tabs. Its address holds the current tab and settings."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gradio as gr

from rankviz import endpoints
from rankviz.api import Api
from rankviz.core.runs.metric import LOSS, METRICS
from rankviz.errors import RankVizError
from rankviz.figures import X_LABELS
from rankviz.figures.hero import QUALITY_LABELS
from rankviz.ui import link, who
from rankviz.ui.adapter import tab as adapter
from rankviz.ui.blocks import PageBlocks
from rankviz.ui.explore import tab as explore
from rankviz.ui.explore.start import question_of
from rankviz.ui.guide import tab as guide
from rankviz.ui.parts.controls import address, done, header, opened, plain
from rankviz.ui.parts.question import DEFAULTS
from rankviz.ui.parts.where import not_here
from rankviz.ui.runs import tab as runs
from rankviz.ui.runs.sweep import USUAL, default_tolerance
from rankviz.ui.train import tab as train
from rankviz.ui.train.tab import FOLD_AS_RESTORED, READY
from rankviz.ui.wiring import clicked, notice_html, on_any, put, quiet

JUDGED_ADDRESS = f"""(metric, tolerance) => RankViz.write({{
  metric: metric === "{LOSS.key}" ? null : metric,
  tolerance: tolerance === {USUAL}[metric] ? null : tolerance,
}})"""
"""What a sweep is judged by and within. In the browser, so in the order in which it was chosen."""


def build_app(api: Api) -> gr.Blocks:
    with PageBlocks(
        title="RankViz: what a LoRA rank costs, and what it buys",
        analytics_enabled=False,
        fill_width=True,
    ) as app:
        with gr.Row(elem_classes="rv-top"):
            header()
            running_now = train.build_badge(api)
            who.login(api)
        notice = plain(elem_id="address-notice")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Explore", id="explore") as explore_tab:
                exploring = explore.build(api)
            with gr.Tab("Train", id="train") as train_tab:
                training = train.build(api)
            with gr.Tab("Runs", id="runs") as runs_tab:
                running = runs.build(api)
            with gr.Tab("Adapter", id="adapter") as adapter_tab:
                adapting = adapter.build(api)
            with gr.Tab("Guide", id="guide") as guide_tab:
                rules = guide.build(api, exploring.question)
        where = address()
        identity = who.build(api)
        endpoints.publish(api)

        restored = {
            "notice": notice,
            "tabs": tabs,
            "training_sweep": training.sweep_id,
            "sweep": running.sweep_id,
            "run": running.run_id,
            "open_sweep": running.open_id,
            "metric": running.metric,
            "judged_by": running.judged_by,
            "tolerance": running.tolerance,
            "details": running.details,
            "showing_runs": running.showing,
        }

        # A closure, since Gradio finds gr.Request by the function's own type hints and loses it in a partial.
        def load(request: gr.Request) -> dict[Any, Any]:
            result = restore(api, dict(request.query_params))
            # What the address leaves as it is stays untouched: someone may have typed meanwhile.
            given = {name: value for name, value in result.question.items() if value != DEFAULTS[name]}
            can_measure = {button: gr.Button(interactive=True) for button in exploring.measure.values()}
            form = training.fill["fn"](result.training_sweep)
            return put(result._asdict(), restored) | put(given, exploring.question) | can_measure | form

        filled = [
            *restored.values(),
            *exploring.question.values(),
            *exploring.measure.values(),
            *training.fill["outputs"],
        ]
        loaded = app.load(load, None, filled, **quiet())
        loaded.then(None, js="() => RankViz.restored()")
        loaded.then(**exploring.fit).then(**exploring.restored)
        loaded.then(**running_now.draw)
        if identity:
            app.load(**identity, **quiet())
        app.load(None, js=adapter.BUSY_OF_THE_ADDRESS)
        app.load(adapting.load, None, adapting.loaded, **quiet()).then(**done("adapter-busy"))

        opened_runs = [running.sweep_id, running.run_id]
        tab_widgets = (explore_tab, train_tab, runs_tab, adapter_tab, guide_tab)
        for name, tab in zip(link.TABS, tab_widgets, strict=True):
            # In the browser, so in the order of clicks.
            script = f"() => RankViz.selected({name!r}) === 'runs' ? {runs.SHOWING!r} : ''"
            tab.select(None, None, running.showing, js=script)
        to = {name: on_any(opened(name).submit) for name in link.TABS[1:]}
        to["guide"].then(**rules)
        to["train"].then(**training.draw).then(None, js=FOLD_AS_RESTORED)
        for event in training.opened:
            to["train"].then(**event)
        # What is shown by default is named too, so that a copied link shows others the same.
        to["train"].then(lambda sweep: _opened_address(sweep or "", ""), training.sweep_id, where, **quiet())
        shown = to["runs"].then(None, None, running.showing, js=f"() => {runs.SHOWING!r}")
        shown.then(**running.draw).then(_opened_address, opened_runs, where, **quiet())
        to["adapter"].then(**adapting.choices)
        question_inputs = {**exploring.question, "data_file": exploring.data_file}
        measuring = [
            gr.on([button.click], **train.measuring(api, training, question_inputs, tabs, mode))
            for mode, button in exploring.measure.items()
        ]
        training.started.then(**running_now.draw)
        picked = running_now.line.select(train.chosen, None, [training.sweep_id, training.seen, tabs], **clicked())
        for measured in measuring:
            measured.success(**training.draw).then(None, js=READY)
        picked.then(**training.draw)
        picked.then(**training.fill)
        for after in (*(measured.success for measured in measuring), picked.then, training.started.success):
            after(lambda sweep: (sweep, ""), training.sweep_id, opened_runs, **quiet()).then(
                _opened_address, opened_runs, where, **quiet()
            )
        for chosen in running.chosen:
            chosen.then(_opened_address, opened_runs, where, **quiet())
        judged = [running.metric, running.tolerance]
        for event in (on_any(running.tolerance.input), running.judged):
            event.then(None, judged, None, js=JUDGED_ADDRESS)
        running.train.click(lambda: gr.Tabs(selected="train"), None, tabs, **quiet())
        adapter_address = address()  # of its own: it says nothing of runs
        for shown in adapting.opened:
            shown.then(adapter.address_of, adapting.source, adapter_address, **quiet())
        shown = [*opened_runs, running.open_id, running.showing, tabs]
        for shows_runs in (exploring.curve, training.curve, training.results):
            chosen = shows_runs.select(_opening(api), None, shown, **clicked())
            chosen.then(**running.draw).then(None, js=runs.SHOW_RUN)
            chosen.then(_opened_address, opened_runs, where, **quiet())
    return app


class Restored(NamedTuple):
    """What the address sets."""

    notice: str
    tabs: Any
    question: Mapping[str, Any]
    """By the names of question.DEFAULTS."""
    training_sweep: str
    sweep: str
    run: str
    open_sweep: str
    """Whose runs are listed: that of a run in the address."""
    metric: str
    judged_by: str
    tolerance: str
    details: Any
    """Of a sweep: open where the address has a tolerance, whose box is in them."""
    showing_runs: Any


def restore(api: Api, params: Mapping[str, str]) -> Restored:
    """The page that the address describes. For a wrong parameter the default is shown, with a notice above the tabs."""
    values, notes = question_of(api, params)
    for name, known in (("x", X_LABELS), ("y", QUALITY_LABELS)):
        if params.get(name) not in (None, *known):
            shown = params[name][:40]
            notes.append(
                f"The address has {name}={shown}, but {name} must be one of {', '.join(known)}. The default is shown."
            )
    tab = params.get("tab", "explore")
    tab = link.RENAMED_TABS.get(tab, tab)
    if tab not in link.TABS:
        notes.append(f"The address has tab={tab[:40]}, but the tabs are {', '.join(link.TABS)}. Explore is shown.")
        tab = "explore"
    sweep_id, run_id, missing = params.get("sweep", ""), params.get("run", ""), ""
    if sweep_id:
        try:
            api.runs.sweep(sweep_id)
        except RankVizError:
            sweep_id, missing = "", sweep_id
    if run_id:
        try:
            sweep_id = api.runs.get(run_id).request.sweep_id
        except RankVizError:
            run_id, missing = "", run_id
    if missing and tab != "runs":  # which says so itself
        notes.append(not_here(api, missing))
    metric = params.get("metric", LOSS.key)
    if metric not in METRICS:
        notes.append(
            f"The address has metric={metric[:40]}, but metric must be one of {', '.join(METRICS)}. The default is "
            "shown."
        )
        metric = LOSS.key
    if not sweep_id and not missing:
        sweep_id = next((s.sweep_id for s in api.runs.made() if not s.ended), "")
    return Restored(
        notice=notice_html(*notes),
        tabs=gr.Tabs(selected=tab) if tab != "explore" else gr.skip(),  # someone may have opened another meanwhile
        question=values,
        training_sweep=sweep_id,
        sweep=sweep_id or missing or runs.first_sweep(api),
        run=run_id,
        open_sweep=sweep_id if run_id else "",
        metric=metric,
        judged_by=metric,
        tolerance=params.get("tolerance", default_tolerance(metric)),
        details=gr.Accordion(open="tolerance" in params),
        showing_runs=runs.SHOWING if tab == "runs" else gr.skip(),
    )


def _opening(api: Api) -> Any:
    # A closure, since Gradio finds gr.EventData by the function's own type hints and loses it in a partial.
    def opened(event: gr.EventData) -> tuple[str, str, str, str, Any]:
        """A point or a row was clicked: its run, on the tab of runs."""
        run_id = runs.clicked_id(event)
        sweep_id = api.runs.get(run_id).request.sweep_id
        return sweep_id, run_id, sweep_id, runs.SHOWING, gr.Tabs(selected="runs")

    return opened


def _opened_address(sweep_id: str, run_id: str) -> str:
    return link.address({"sweep": sweep_id or None, "run": run_id or None})
