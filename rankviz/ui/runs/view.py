"""Content of the Runs tab: the list of sweeps, the selected runs on one chart, the chosen sweep and run."""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.record import RunRecord, RunState, Sweep, base_name, data_name, sweep_title
from rankviz.errors import BusyError, LimitError, RankVizError, UserError, quoted
from rankviz.exports.tables import Table
from rankviz.exports.tables import runs_table as measured_table
from rankviz.figures import sweep_figure, sweep_info, training_figure
from rankviz.publish import ADAPTER, TRACKIO, Destination, Token
from rankviz.publish.files import known_base
from rankviz.ui.parts import html
from rankviz.ui.parts import sweep as of_sweep
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, exact, exact_span, notice_html, rounded
from rankviz.ui.parts.sweep import listed, place_of, trains_elsewhere
from rankviz.ui.parts.widgets import PANEL_HEIGHT, chart_json, json_text
from rankviz.ui.wiring import View
from rankviz.units import counted
from rankviz.verdict import Verdict

POLL_SECONDS = 2.0
HEADERS = ("Sweep", "State", "Loss", "Gain", "Adapter file", "Memory", "Run time", "Requested")
RUN_HEADERS = ("Rank", "State", "Learning rate", "Seed", "Held-out loss", "Gain")
COST_HEADERS = ("Parameters", "Adapter file", "Peak memory", "Training time")
VAGUE = 10.0
"""A range this many times as high as low is shown by its high end."""
UNFOLDED = 12
"""Maximum listed sweeps that are not folded."""
MOST_ROWS = 500
"""Maximum listed sweeps of the visitor: a browser takes seconds to draw thousands."""
NOTHING_OF_YOURS = "You have no runs yet. The recorded sweeps below ship with RankViz: click one, or train your own."
CHOOSE = "Click a sweep in the list to read it."


def choice_of(api: Api, clicked_id: str, run_id: str = "") -> tuple[str, str]:
    """Return the ids of the sweep and run to show after a click on a sweep, a run or a run that cannot be read; empty
    for none. run_id: the shown run, which a second click closes."""
    if clicked_id in api.runs.unreadable() or api.runs.is_sweep(clicked_id):
        return clicked_id, ""
    return api.runs.get(clicked_id).request.sweep_id, "" if clicked_id == run_id else clicked_id


def list_html(
    api: Api,
    sweeps: Sequence[Sweep],
    unreadable: Mapping[str, str],
    *,
    text: str = "",
    selected: Collection[str] = (),
    sweep_id: str = "",
) -> str:
    """Build the table of the visitor's sweeps, runs that cannot be read, and recorded sweeps.

    Args:
        api: Operations of the current visitor.
        sweeps: In the order of the list, recorded ones last.
        unreadable: Reason why a run cannot be read, by its folder's name; listed without a filter only.
        text: Filter words that a run of a listed sweep must all have, such as its state.
        selected: Ids of the ticked runs; the box of a sweep ticks all its runs.
        sweep_id: Id of the shown sweep.
    """
    selected = frozenset(selected)  # each run of the folder is looked up in it
    matching = [sweep for sweep in sweeps if matching_of(sweep, text)]
    own = [sweep for sweep in matching if not sweep.recorded]
    broken, dashes = {} if text else unreadable, [Cell("–")] * (len(HEADERS) - 2)
    elsewhere, rows = trains_elsewhere(api), []
    for each in (*own[:MOST_ROWS], *broken, *(sweep for sweep in matching if sweep.recorded)):
        if isinstance(each, str):
            cells = Cell(each), Cell(f"unreadable: {broken[each]}", kind="wrap"), *dashes
            rows.append(Row(cells, pick=each, chosen=each == sweep_id))
            continue
        ids, owner = [run.run_id for run in each.runs], api.runs.owner_of(each.runs[0].run_id)
        cells = _sweep_cells(each, owner, place_of(api, each, elsewhere))
        looks = {"chosen": each.sweep_id == sweep_id, "ticks": ids, "ticked": selected.issuperset(ids)}
        rows.append(Row(cells, pick=each.sweep_id, **looks))
    if not rows:
        return html.empty("No run matches the filter.")
    left_out = len(own) - MOST_ROWS
    more = f"Not listed: {counted(left_out, 'older sweep')}. Use the filter to find them." if left_out > 0 else ""
    first, rest = rows[:UNFOLDED], rows[UNFOLDED:]
    table = html.table(HEADERS, first, label="Sweeps", left=2)
    if rest:
        is_open, further = any(row.chosen or row.ticked for row in rest), counted(len(rest), "more sweep")
        table += html.folded(further, html.table(HEADERS, rest, label=further, left=2), is_open=is_open, name="more")
    return table + (html.empty(more) if more else "")


def matching_of(sweep: Sweep, text: str) -> list[RunRecord]:
    """Return the runs that have all words of a text in their ids, base, data, rank or state."""
    words, matching = (text or "").lower().split(), []
    if not words:
        return list(sweep.runs)
    for run in sweep.runs:
        of = run.request
        names = f"{run.run_id} {of.sweep_id} {base_name(of.base)} {of.data} r={of.r} r = {of.r} {run.state.value}"
        if all(word in names.lower() for word in words):
            matching.append(run)
    return matching


def matching_runs(api: Api, *, text: str) -> Table:
    """Return the runs that match the filter as a table for download."""
    records = [run for sweep in (*api.runs.sweeps(), *api.runs.recorded()) for run in matching_of(sweep, text)]
    return measured_table(zip(records, api.runs.rows(records), strict=True))


def _sweep_cells(sweep: Sweep, owner: str, place: str) -> Sequence[Cell]:
    runs, request = sweep.runs, sweep.runs[0].request
    gains = [run.gain for run in runs if run.gain is not None]
    sizes = sorted(run.adapter_bytes for run in runs if run.adapter_bytes)
    seconds = sum(run.attempt_seconds or 0.0 for run in runs)
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{counts[state]} {state.value}" for state in RunState if state in counts)
    alphas, rates = (
        ", ".join(f"{each:g}" for each in sorted(values))
        for values in ({run.request.lora.lora_alpha for run in runs}, {run.request.learning_rate for run in runs})
    )
    setting = (
        f"{counted(len(runs), 'run')}, {counted(request.max_steps, 'step')}, α {alphas}, rate {rates}, targets "
        f"{listed(request.lora.target_modules)}"
    )
    files = " to ".join(dict.fromkeys(units.file_size(size) for size in (sizes[:1] + sizes[-1:]))) or "–"
    memory = max((run.completed.peak_memory_bytes for run in runs if run.completed), default=None)
    return (
        Cell(sweep_title(sweep), sweep.sweep_id, "wrap", ", ".join(filter(None, [setting, owner]))),
        Cell("recorded" if sweep.recorded else states, kind="narrow", sub=f"on {place}" if place else ""),
        rounded(NATS, min((run.loss_after.loss for run in runs if run.loss_after), default=None), PER_TOKEN),
        rounded(NATS, max(gains, default=None), PER_TOKEN),
        Cell(files, title=f"{sizes[0]:,} to {sizes[-1]:,} bytes" if sizes else ""),
        rounded(units.memory_size, memory, "bytes"),
        rounded(units.duration, seconds or None, "seconds", sub="" if sweep.ended or not seconds else "so far"),
        Cell(time.strftime("%Y-%m-%d %H:%M", time.localtime(request.created_at))),
    )


def results_table(api: Api, runs: Sequence[RunRecord], *, selected: Collection[str] = (), run_id: str = "") -> str:
    """Return a row per run: measured above estimated. selected, run_id: the ticked runs and the shown one."""
    accuracies, rows = [metric for metric in measured_metrics(runs) if metric is not LOSS], []
    for run, estimate in zip(runs, api.runs.expected_runs(runs), strict=True):
        here = run.run_id
        looks = {"ticks": [here], "ticked": here in selected, "chosen": here == run_id}
        rows.append(Row(_measured(run, estimate, accuracies), pick=here, **looks))
    headers = (*RUN_HEADERS, *(metric.label for metric in accuracies), *COST_HEADERS)
    table = html.table(headers, rows, label="Runs, measured and estimated", left=2)
    return f"<h2>Measured (estimate below)</h2>{table}"


def _measured(run: RunRecord, estimate: RunEstimate | None, accuracies: Sequence[Metric]) -> Sequence[Cell]:
    request, done, before, after = run.request, run.completed, run.loss_before, run.loss_after
    state = f"running, step {run.steps_done}" if run.state is RunState.RUNNING and run.steps else run.state.value

    def beside(measured: float | None, expected: Any, text: Callable[[float], str], unit: str, of: str = "") -> Cell:
        """Return a measured value with its estimate, a number or a range, below. of: source of the value."""
        below: str | Cell = ""
        if hasattr(expected, "low"):
            spans = {units.memory_size: units.memory_span, units.duration: units.time_span}
            vague = expected.high > VAGUE * expected.low
            span = f"up to {text(expected.high)}" if vague else spans[text](expected)
            below = Cell(f"est. {span}", title=exact_span(expected, unit))
        elif expected is not None:
            below = Cell(f"est. {text(expected)}", title=exact(expected, unit))
        return rounded(text, measured, unit + of, sub=below)

    sizes = estimate.adapter_parameters if estimate else None, estimate.adapter_bytes if estimate else None
    kind = f", {done.peak_memory_kind}" if done else ""
    return (
        Cell(f"r = {request.r}", title=run.run_id),
        Cell(state, kind="left", title=run.waits.replace("`", "")),
        Cell(f"{request.learning_rate:g}"),
        Cell(str(request.seed)),
        rounded(
            NATS,
            after and after.loss,
            PER_TOKEN,
            sub=rounded("base {:.4f}".format, before.loss, PER_TOKEN) if before else "",
        ),
        rounded(NATS, run.gain, PER_TOKEN),
        *(
            Cell("–" if value is None else metric.text(value), sub=f"base {metric.text(of_base)}" if of_base else "")
            for metric, value, of_base in ((each, each.of(after), each.of(before)) for each in accuracies)
        ),
        beside(run.trainable_parameters, sizes[0], "{:,}".format, "parameters"),
        beside(run.adapter_bytes, sizes[1], units.file_size, "bytes"),
        beside(done and done.peak_memory_bytes, estimate and estimate.memory_bytes, units.memory_size, "bytes", kind),
        beside(done and done.train_seconds, estimate and estimate.seconds, units.duration, "seconds"),
    )


def runs_view(
    api: Api,
    *,
    showing: str,
    text: str,
    x: str,
    selected: Sequence[str],
    sweep_id: str,
    run_id: str,
    metric: str,
    tolerance: str,
    seen: str,
) -> View:
    """Return the parts that changed since they were last drawn; nothing while another tab is open (empty `showing`).
    seen: hashes of what was last drawn, by part, as JSON from the browser."""
    if not showing:
        return View(timer=gr.Timer(active=False))
    reading, unreadable, uploads = api.runs.reading(), api.runs.unreadable(), api.runs.quota.uploads()
    sweeps = [*api.runs.sweeps(), *api.runs.recorded()]
    prints = tuple(of_sweep.fingerprint(sweep) for sweep in sweeps)
    chosen = next((sweep for sweep in sweeps if sweep.sweep_id == sweep_id), None)
    with suppress(RankVizError):  # not listed here where another visitor shares it by its address
        chosen = chosen or api.runs.sweep(sweep_id)
    of_it, standing, ticked = None, "", tuple(selected)
    if chosen:
        is_open = not chosen.recorded and api.runs.is_open(sweep_id)
        of_it = of_sweep.fingerprint(chosen), is_open, api.runs.why_sweep_waits(chosen)
        standing = of_sweep.standing_html(api, chosen)

    def listed_parts() -> dict[str, Any]:
        own = bool(unreadable or reading) or any(not sweep.recorded for sweep in sweeps)
        table = list_html(api, sweeps, unreadable, text=text, selected=ticked, sweep_id=sweep_id)
        size = f"{counted(uploads.files, 'file')}, {units.file_size(uploads.size_bytes)}"
        delete_all = gr.Button(f"Delete my uploads ({size})", visible=bool(uploads.files))
        above = html.empty(reading) if reading else ""
        return {"empty_box": gr.Row(visible=not own), "table": above + table, "uploads": delete_all}

    looks = {"selected": ticked, "run_id": run_id}
    parts: dict[str, tuple[Any, Callable[[], dict[str, Any]]]] = {
        "listed": (
            (text, ticked, sweep_id, tuple(unreadable), prints, reading, uploads),
            listed_parts,
        ),
        "overlaid": ((x, ticked, prints if ticked else ()), lambda: overlay(api, sweeps, ticked, x)),
        "sweep": ((sweep_id, tolerance, metric, of_it), lambda: _sweep(api, chosen, sweep_id, tolerance, metric)),
        "taken": ((sweep_id, tolerance, metric), lambda: dict.fromkeys(("code", "replies"), "")),
        "results": (
            (sweep_id, run_id, ticked, of_it),
            lambda: {"results": results_table(api, chosen.runs, **looks) if chosen else ""},
        ),
        "standing": ((sweep_id, standing), lambda: {"status": standing}),
        "run": ((run_id, of_it), lambda: _run(api, run_id)),
    }
    before, drawn, is_busy = {}, {}, False
    with suppress(ValueError, RecursionError, TypeError):
        before = dict(json.loads(seen))
    now = {name: hash(of) for name, (of, _) in parts.items()}
    for name, (_, draw) in parts.items():
        if before.get(name) != now[name]:
            fields = draw()
            if fields.pop("is_busy", False):
                now[name], is_busy = of_sweep.BUSY, True
            drawn |= fields
    seconds = of_sweep.BUSY_SECONDS if is_busy else POLL_SECONDS
    return View(**drawn, seen=json.dumps(now), timer=gr.Timer(seconds, active=True))


def overlay(api: Api, sweeps: Sequence[Sweep], selected: Collection[str], x: str) -> dict[str, Any]:
    """Draw the selected runs of each base and data on a chart of loss against cost, whose axis is x, and one of loss by
    step: losses of other data or models are on axes of their own."""
    if not selected:
        return {"selected_box": gr.Column(visible=False)}
    selected = frozenset(selected)  # each run of the folder is looked up in it
    chosen = [(sweep, [run for run in sweep.runs if run.run_id in selected]) for sweep in sweeps]
    drawn = [(sweep, runs) for sweep, runs in chosen if runs]
    shown = {"selected_box": gr.Column(visible=True)}
    try:
        judged = api.verdicts.of_runs([runs for _, runs in drawn], LOSS)
    except LimitError as error:
        notice, is_busy = notice_html(str(error), kind="error"), isinstance(error, BusyError)
        return {**shown, "selected_title": "", "curve": "", "caption": notice, "is_busy": is_busy}
    subjects: dict[tuple[str, str, str], list[tuple[Sweep, Verdict | None]]] = {}
    for (sweep, runs), verdict in zip(drawn, judged, strict=True):
        asked = runs[0].request
        subjects.setdefault((asked.base, asked.data, asked.columns), []).append((sweep, verdict))
    charts, sources = [], []
    for (base, data, _), of_it in subjects.items():
        curve = sweep_figure(sweep_info([each for each in of_it if each[1]], x=x), height=PANEL_HEIGHT)
        loss = training_figure([sweep for sweep, _ in of_it], run_ids=selected, height=PANEL_HEIGHT)
        sources.append(curve.source)
        for title, drawing, file in (("Loss against cost", curve, "quality"), ("Training loss", loss, "loss")):
            name = f"{title}: {base_name(base)} on {data_name(data)}"
            charts.append({"title": name, **chart_json(drawing, file=file)})
    count = counted(sum(len(runs) for _, runs in drawn), "selected run")
    return {
        **shown,
        "selected_title": html.titled(f"{count} of {counted(len(drawn), 'sweep')}", ""),
        "curve": json_text(charts),
        "caption": html.paragraphs(" ".join(sources)),
    }


def _sweep(api: Api, chosen: Sweep | None, sweep_id: str, tolerance: str, metric: str) -> dict[str, Any]:
    if chosen is not None:
        drawn = of_sweep.sweep_view(api, chosen, tolerance=tolerance, metric=metric)
        more = {"message": "", "delete_broken": gr.Button(visible=False), "publish": publish_box(api, chosen)}
        return vars(drawn) | more
    reason = api.runs.unreadable().get(sweep_id)
    words = f"Run {quoted(sweep_id)} cannot be read: {reason}" if reason else of_sweep.not_here(api, sweep_id)
    message = notice_html(words, kind="error") if sweep_id else html.empty(CHOOSE)
    broken = gr.Button(visible=reason is not None)
    return {"message": message, "delete_broken": broken, "sweep_box": gr.Column(visible=False)}


def _run(api: Api, run_id: str) -> dict[str, Any]:
    detail, can_end = "", False
    try:
        if run_id:
            run = api.runs.get(run_id)
            can_end = not run.state.ended and api.runs.is_mine(run_id) and not api.runs.cancel_is_pending([run])
            detail = detail_html(api, run)
    except RankVizError as error:
        detail, can_end = notice_html(str(error), kind="error"), False
    return {"detail": detail, "cancel_run": gr.Button(visible=can_end)}


def detail_html(api: Api, run: RunRecord) -> str:
    """Build a run's section: when and where it ran, error and log, folded configuration and environment."""
    request = run.request
    when = f"Requested: {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(request.created_at))}."
    if run.ended_at and run.started_at:
        when += f" Duration: {units.duration(max(0.0, run.ended_at - run.started_at))}."
    estimate, place = api.runs.expected_run(run), place_of(api, run)
    place = f"Place: {place}." if place else ""
    basis = f"The time is estimated {estimate.timed_in_words}." if estimate and estimate.timed_in_words else ""
    log, title = run.log_tail if run.state is RunState.FAILED else "", "<h2>Last lines of the worker&#x27;s log</h2>"
    shown = f'<div class="rv-code">{title}<pre tabindex="0">{escape(log)}</pre></div>' if log else ""
    return (
        f'<section class="rv-detail" aria-label="Run {escape(run.run_id)}">'
        f"<h2>{escape(f'r = {request.r}: {base_name(request.base)} on {data_name(request.data)}')}</h2>"
        f"{html.paragraphs(when, place, api.runs.why_waits(run), basis)}{notice_html(run.error, kind='error')}"
        f"{shown}{of_sweep.facts_html([run], run.environment)}</section>"
    )


def shipped_adapter(api: Api, sweep_id: str, tolerance: str = "", metric: str = LOSS.key) -> str:
    """Return the path of a zip of the adapter to ship by this sweep's verdict; PEFT loads the unpacked folder."""
    shown = of_sweep.judged(api, api.runs.sweep(sweep_id), tolerance, METRICS[metric])
    if shown.adapter is None:
        none = "This sweep has no adapter to download here: none was saved, or it was imported without it."
        raise UserError(shown.why_not or none)
    return str(api.adapters.zip_of_rank(shown.adapter.run_id, shown.adapter.r))


def zip_of(api: Api, ids: Sequence[str]) -> str:
    """Export runs or sweeps as a zip for another RankViz; return its path, in a new folder for each call."""
    if not ids:
        raise UserError("Select at least one run: tick its box in the table.")
    return str(api.runs.zip_of(ids))


def imported(api: Api, file: str | None) -> tuple[str, str]:
    """Import a zip of runs; return the ids that open the sweep of its first run, and no run."""
    if not file:
        raise UserError("Choose a zip of runs.")
    run_ids = list(api.runs.import_(Path(file)))
    gr.Info(f"{counted(len(run_ids), 'run')} imported.")
    return api.runs.get(run_ids[0]).request.sweep_id, ""


def delete(api: Api, sweep_id: str) -> Sequence[Any]:
    """Delete the sweep and return no ids to show; do nothing for an empty id, which stands for an unconfirmed click."""
    if not sweep_id:
        return gr.skip(), gr.skip()
    gr.Info(f"{counted(len(api.runs.delete(sweep_id)), 'run')} deleted.")
    return "", ""


def delete_uploads(api: Api) -> Any:
    """Delete the visitor's uploads; return the update that hides the button."""
    gr.Info(f"{counted(api.runs.quota.delete_uploads().files, 'upload')} deleted.")
    return gr.Button(visible=False)


def publish_box(api: Api, sweep: Sweep) -> Any:
    """Return the section's visibility: shown for the visitor's own sweep with a completed run."""
    finished = not sweep.recorded and any(run.completed for run in sweep.runs)
    return gr.Accordion(visible=finished and api.runs.is_own(sweep.sweep_id))


def publish_form(api: Api, *, to: str, sweep_id: str) -> View:
    """Show the fields that a destination needs. The base is asked for where the sweep's base was a local folder."""
    asks = bool(sweep_id) and not known_base(api.runs.sweep(sweep_id).runs[0].request.base)
    return View(
        place=gr.Textbox(label="Project" if to == TRACKIO else "Repository (owner/name)"),
        space=gr.Textbox(visible=to == TRACKIO),
        base_model=gr.Textbox(visible=True) if asks else gr.Textbox("", visible=False),
        use_login=gr.Checkbox(visible=bool(api.runs.hub_login())),
        status="",
    )


def publish(api: Api, *, sweep_id: str, run_id: str, token: str, **form: Any) -> str:
    """Publish with the typed token, or with a Hugging Face login's token. Return the result as HTML. form: `to`,
    `place`, `space`, `base_model`, `public` and `use_login`, as the widgets have them."""
    to = form["to"]
    if to == ADAPTER and not run_id:
        raise UserError("Select a run of this sweep first (click it in the list): an adapter belongs to one run.")
    space, base = (form["space"].strip() if to == TRACKIO else ""), form["base_model"].strip()
    name = form["place"].strip()
    destination = Destination(to=to, name=name, public=bool(form["public"]), space=space, base_model=base)
    login = api.workspace.visitor.login
    given = token.strip() or (login.token if login else "")
    subject = run_id if to == ADAPTER else sweep_id
    use_login = bool(form["use_login"]) and not given
    result = api.runs.publish(subject, destination, Token(given) if given else None, use_login=use_login)
    words = escape(result.in_words(destination).removesuffix(result.url))
    link = html.link(escape(space or destination.name), result.url) if result.url else ""
    return f'<div class="rv-notice rv-note" role="status"><p>{words}{link}</p></div>'
