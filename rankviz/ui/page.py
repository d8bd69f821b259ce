"""Builds the page: a header and five tabs. Its address holds the current tab and settings."""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from rankviz import endpoints
from rankviz.api import Api
from rankviz.core.runs.metric import LOSS, METRICS
from rankviz.errors import RankVizError
from rankviz.figures import X_LABELS
from rankviz.figures.hero import QUALITY_LABELS
from rankviz.shared.identity import login_is_on
from rankviz.ui import adapter, guide, link
from rankviz.ui.blocks import PageBlocks
from rankviz.ui.explore import tab as explore
from rankviz.ui.explore.answer import question_of
from rankviz.ui.link import DEFAULTS
from rankviz.ui.parts import html
from rankviz.ui.parts.html import notice_html
from rankviz.ui.parts.sweep import not_here
from rankviz.ui.parts.widgets import done, hidden, plain, scripted
from rankviz.ui.runs import tab as runs
from rankviz.ui.train import tab as train
from rankviz.ui.wiring import CLICKED, QUIET, View, of_click, on_any, put
from rankviz.visitor import Visitor

ANONYMOUS = (
    "You are anonymous here. Your runs and uploads belong to this browser's cookie: other visitors do not see them. "
    "If you delete the cookie, you do not see them either."
)
UNKNOWN = "This browser keeps no cookie of this page, so you can explore, not train. Allow its cookie and reload."
ADMIN = "You are the admin: you see the runs of all visitors, and can end and delete them."


def who_html(visitor: Visitor, *, has_admin: bool) -> str:
    """Say as HTML who the visitor is. has_admin: True adds a link to the admin's sign-in."""
    words = ANONYMOUS if visitor.id else UNKNOWN
    if visitor.admin:
        words = ADMIN
    elif visitor.name:
        words = f"You are {visitor.name}. Your runs and uploads belong to your Hugging Face account."
    # Relative, since a page may be served under a path.
    return html.paragraphs(words) + ('<p class="rv-caption"><a href="rankviz/admin">Admin</a></p>' if has_admin else "")


JUDGED_ADDRESS = f"""(metric, tolerance) => RankViz.write({{
  metric: metric === "{LOSS.key}" ? null : metric, tolerance: tolerance || null,
}})"""
"""JavaScript that writes the metric and tolerance of the shown sweep into the page's address. It runs in the browser,
not on the server, so that quick changes reach the address in their order."""


def build_app(api: Api) -> gr.Blocks:
    title = "RankViz: what a LoRA rank costs, and what it buys"
    with PageBlocks(title=title, analytics_enabled=False, fill_width=True) as app:
        with gr.Row(elem_classes="rv-top"):
            # The page's title, and a button that copies an address of the current view.
            scripted(html.markup("header"), "RankViz.header(element)", elem_id="header")
            badge, draw_badge = train.build_badge(api)
            if api.workspace.shared and login_is_on():
                # Gradio's icon is a file of this machine, which the page hands out to nobody.
                gr.LoginButton(size="sm", min_width=160, scale=0, icon=None, elem_id="login")
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
        # The address of adapters is apart: it says nothing of runs.
        run_address, adapter_address = (hidden("RankViz.address(props, watch)") for _ in range(2))
        if api.workspace.shared:
            has_admin = bool(api.workspace.settings.admin_token)
            app.load(lambda: who_html(api.workspace.visitor, has_admin=has_admin), None, plain(elem_id="who"), **QUIET)
        endpoints.publish(api)

        restored = {
            "notice": notice,
            "tabs": tabs,
            "training_sweep": training.sweep_id,
            "sweep": running.sweep_id,
            "run": running.run_id,
            "metric": running.metric,
            "tolerance": running.tolerance,
            "details": running.details,
            "showing_runs": running.showing,
        }
        measure = exploring.measure

        # A closure, since Gradio finds gr.Request by the function's own type hints and loses it in a partial.
        def load(request: gr.Request) -> dict[Any, Any]:
            result = restore(api, dict(request.query_params))
            # What the address leaves as it is stays untouched: someone may have typed meanwhile.
            given = {name: value for name, value in result.question.items() if value != DEFAULTS[name]}
            can_measure = {button: gr.Button(interactive=True) for button in measure.values()}
            form = training.fill["fn"](result.training_sweep)
            return put(vars(result), restored) | put(given, exploring.question) | can_measure | form

        filled = [*restored.values(), *exploring.question.values(), *measure.values(), *training.fill["outputs"]]
        loaded = app.load(load, None, filled, **QUIET)
        loaded.then(None, js="() => RankViz.restored()")
        loaded.then(**exploring.fit).then(**exploring.restored)
        loaded.then(**draw_badge)
        app.load(None, js=adapter.BUSY_OF_THE_ADDRESS)
        app.load(adapting.load, None, adapting.loaded, **QUIET).then(**done("adapter-busy"))

        opened_runs = [running.sweep_id, running.run_id]
        write_address = {"fn": _opened_address, "inputs": opened_runs, "outputs": run_address, **QUIET}
        for name, tab in zip(link.TABS, (explore_tab, train_tab, runs_tab, adapter_tab, guide_tab), strict=True):
            # In the browser, so in the order of clicks.
            script = f"() => RankViz.selected({name!r}) === 'runs' ? {runs.SHOWING!r} : ''"
            tab.select(None, None, running.showing, js=script)
        # Fires when a tab is opened, or when a restored page starts on it. A tab's own `select` could fire before
        # settings are restored, and then the tab would be drawn twice.
        script = "RankViz.opened({!r}, () => trigger('submit'))"
        to = {name: on_any(hidden(script.format(name)).submit) for name in link.TABS[1:]}
        to["guide"].then(**rules)
        to["adapter"].then(**adapting.choices)
        to["train"].then(**training.draw).then(None, js=train.FOLD_AS_RESTORED)
        for event in training.opened:
            to["train"].then(**event)
        # What is shown by default is named too, so that a copied link shows others the same.
        to["train"].then(_opened_address, training.sweep_id, run_address, **QUIET)
        shown = to["runs"].then(None, None, running.showing, js=f"() => {runs.SHOWING!r}")
        shown.then(**running.draw).then(**write_address)
        question = {**exploring.question, "data_file": exploring.data_file}
        measuring = [
            button.click(**train.measuring(api, training, question, tabs, mode)) for mode, button in measure.items()
        ]
        for button, shown_by in (training.onward, running.onward):
            measuring.append(button.click(**train.longer(api, training, shown_by, tabs)))
        training.started.then(**draw_badge)
        picked = badge.select(train.chosen, None, [training.sweep_id, training.seen, tabs], **CLICKED)
        for measured in measuring:
            measured.success(**training.draw).then(None, js=train.READY)
        picked.then(**training.draw)
        picked.then(**training.fill)
        for after in (*(measured.success for measured in measuring), picked.then, training.started.success):
            of_training = after(lambda sweep: (sweep, ""), training.sweep_id, opened_runs, **QUIET)
            of_training.then(**write_address)
        for chosen in running.chosen:
            chosen.then(**write_address)
        for event in (on_any(running.tolerance.input), running.judged):
            event.then(None, [running.metric, running.tolerance], None, js=JUDGED_ADDRESS)
        running.train.click(lambda: gr.Tabs(selected="train"), None, tabs, **QUIET)
        for shown in adapting.opened:
            shown.then(adapter.address_of, adapting.source, adapter_address, **QUIET)

        def to_run(run_id: str) -> tuple[str, str, str, Any]:
            """Open the run of a clicked point or row on the Runs tab."""
            return api.runs.get(run_id).request.sweep_id, run_id, runs.SHOWING, gr.Tabs(selected="runs")

        shown = [*opened_runs, running.showing, tabs]
        for shows_runs in (exploring.curve, training.curve):
            chosen = shows_runs.select(of_click(to_run), None, shown, **CLICKED)
            chosen.then(**running.draw).then(None, js=runs.SHOW_RUN)
            chosen.then(**write_address)
    return app


def restore(api: Api, params: Mapping[str, str]) -> View:
    """Restore the page from its address; a wrong parameter keeps its default and gives a notice above the tabs.
    `question` has values by the names of link.DEFAULTS. A tolerance in the address opens the sweep's details."""
    values, notes = question_of(api, params)
    for name, known in (("x", X_LABELS), ("y", QUALITY_LABELS), ("metric", METRICS)):
        if name in params and params[name] not in known:
            notes.append(link.wrong(name, params[name], f"one of {', '.join(known)}"))
    tab = params.get("tab", "explore")
    if tab not in link.TABS:
        notes.append(f"The address has tab={tab[:40]}, but the tabs are {', '.join(link.TABS)}. Explore is shown.")
        tab = "explore"
    sweep_id, run_id, missing = params.get("sweep", ""), params.get("run", ""), ""
    try:
        if sweep_id:
            api.runs.sweep(sweep_id)
    except RankVizError:
        sweep_id, missing = "", sweep_id
    try:
        if run_id:
            sweep_id = api.runs.get(run_id).request.sweep_id
    except RankVizError:
        run_id, missing = "", run_id
    if missing and tab != "runs":  # which says so itself
        notes.append(not_here(api, missing))
    metric = params.get("metric") if params.get("metric") in METRICS else LOSS.key
    if not sweep_id and not missing:
        sweep_id = next((sweep.sweep_id for sweep in api.runs.made() if not sweep.ended), "")
    return View(
        notice=notice_html(*notes),
        tabs=gr.Tabs(selected=tab) if tab != "explore" else gr.skip(),  # someone may have opened another meanwhile
        question=values,
        training_sweep=sweep_id,
        sweep=sweep_id or missing or next((each.sweep_id for each in (*api.runs.made(), *api.runs.recorded())), ""),
        run=run_id,
        metric=metric,
        tolerance=params.get("tolerance", ""),
        details=gr.Accordion(open="tolerance" in params),
        showing_runs=runs.SHOWING if tab == "runs" else gr.skip(),
    )


def _opened_address(sweep_id: str | None, run_id: str = "") -> str:
    return json.dumps({"sweep": sweep_id or None, "run": run_id or None})
