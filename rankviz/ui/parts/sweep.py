"""One sweep, as Train and Runs show it: widgets, buttons, state, cost, charts, verdict, answers and settings."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.adapters import MOST_CHARACTERS
from rankviz.api.engines import Plan
from rankviz.core.forecast.decision import Decision
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.record import RunRecord, RunState, Sweep, run_labels, still_training, sweep_title, title
from rankviz.errors import BusyError, InvalidSettingError, LimitError, RankVizError, UserError, quoted
from rankviz.exports import FORMATS
from rankviz.figures import training_figure
from rankviz.figures.sweep import BEST, MARKS, WHAT_A_FAST_CURVE_IS
from rankviz.ui.parts import html
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, code_html, exact, notice_html, rounded, written_html
from rankviz.ui.parts.widgets import busy, busy_line, chart, chart_value, copyable, done, plain, sweep_chart
from rankviz.ui.wiring import View, action, wire
from rankviz.verdict import Verdict, sentences, shipped, summary
from rankviz.verdict.losses import OVER_EXAMPLES, is_over_examples

HEIGHT = 320
BUSY_SECONDS = 5.0
"""Seconds until the page tries again when other visitors use all slots, or a price is not known yet."""
BUSY = "busy"
"""Marker in place of the fingerprint of a sweep drawn without its verdict, so that the sweep is drawn again."""
LONGER = 4
"""Steps of a longer training over those of the sweep."""
NOT_DRAWN = ("export_as", "prompt", "ask", "stop")
"""Widgets of a sweep that `sweep_view` does not update."""
OFFERED_FORMATS = [
    (form.label, name) for name, form in FORMATS.items() if name not in ("script", "notebook", "adapter-config")
]
"""Formats that need no choice of a framework."""
NO_PRICE_YET = "a job, price not known yet"
SHARE = "Share: anyone who has the link can read this sweep"
COPY_IT = "Copy link, at the top of the page, copies the address of this sweep."
OF_ANOTHER = "This sweep belongs to another visitor, who shares it: you can read it, not change it."


def sweep_widgets(tab: str, *, whole: bool, state: str = "") -> dict[str, Any]:
    """Build the widgets of one sweep, by names of `sweep_view`.

    Args:
        tab: Start of the elements' ids, "train" or "sweep".
        whole: True adds widgets to read, share and delete a sweep: buttons, its owner, and the metric that judges it.
        state: Initial HTML of the state.
    """
    w: dict[str, Any] = {"status": plain(state, elem_id=f"{tab}-status")}
    labels = {"resume": "", "cancel": ""}
    if whole:
        labels |= {"export": "Download this sweep (zip)", "delete": "Delete this sweep"}
    with gr.Row(elem_classes="rv-bar", elem_id=f"{tab}-changes"):
        for name, label in labels.items():
            looks = {"variant": "stop"} if name == "cancel" else {}
            w[name] = gr.Button(label, visible=False, size="sm", elem_id=f"{tab}-{name}", **looks)
        if whole:
            w["share"] = gr.Checkbox(False, label=SHARE, visible=False, elem_id="sweep-share")
    if whole:
        w["owner"] = plain(elem_id="sweep-owner")
        looks = {"interactive": True, "visible": False, "elem_id": "sweep-metric"}
        w["metric"] = gr.Dropdown(
            [(each.label, each.key) for each in METRICS.values()], value=LOSS.key, label="Quality", **looks
        )
    looks = {"height": HEIGHT, "optional": True}
    with gr.Row(elem_classes="rv-charts"):
        w["by_rank"] = chart("Quality by rank", elem_id=f"{tab}-curve", **looks)
        w["loss"] = chart("Training loss by step", elem_id=f"{tab}-loss", **looks)
    w["summary"] = plain(elem_id=f"{tab}-summary")
    with gr.Row(visible=False, elem_classes="rv-bar", elem_id=f"{tab}-next") as w["onward"]:
        for name in ("ship", "longer", "add") if whole else ("longer", "add"):
            w[name] = gr.Button("", visible=False, size="sm", elem_id=f"{tab}-{name}")
        looks = {"interactive": True, "scale": 0, "min_width": 300, "elem_id": f"{tab}-export-as"}
        w["export_as"] = gr.Dropdown(OFFERED_FORMATS, value="unsloth", label="Script or configuration", **looks)
        w["take"] = gr.Button("", size="sm", elem_id=f"{tab}-take")
    w["code"] = copyable(elem_id=f"{tab}-code")
    with gr.Accordion("", visible=False, open=False, elem_id=f"{tab}-try") as w["trying"]:
        looks = {"lines": 2, "max_length": MOST_CHARACTERS, "placeholder": "In the form of the training data"}
        w["prompt"] = gr.Textbox("", label="Prompt", elem_id=f"{tab}-prompt", **looks)
        with gr.Row(elem_classes="rv-bar"):
            w["ask"] = gr.Button("Answer", variant="primary", size="sm", elem_id=f"{tab}-ask")
            w["stop"] = gr.Button("Stop", size="sm", elem_id=f"{tab}-stop")
        busy_line(f"{tab}-try-busy")
        w["replies"] = copyable(elem_id=f"{tab}-replies")
    return w


def connect(api: Api, w: Mapping[str, Any], sweep_id: Any, drawing: Mapping[str, Any], line_id: str) -> dict[str, Any]:
    """Connect the buttons that cancel, extend and resume a sweep, each of which draws it again, and those that export
    its rank and try its adapter. drawing: Event that draws. line_id: Line that shows that work takes a while. Return
    the widgets that say which sweep is shown and how it is judged, by the arguments of `judged_now`."""
    changes = {"cancel": api.runs.cancel, "add": partial(add_run, api), "resume": api.runs.resume}
    for name, change in changes.items():
        words = "Cancelling …" if name == "cancel" else "Starting …"
        w[name].click(**busy(line_id, words))
        changed = w[name].click(inputs=sweep_id, **action(partial(press, change)))
        changed.then(**drawing).then(**done(line_id))
    shown, line_id = {"sweep_id": sweep_id}, line_id.replace("busy", "try-busy")
    shown |= {name: w[name] for name in ("tolerance", "metric") if name in w}
    w["ask"].click(**busy(line_id, "Loading the base and the adapter, then answering …"))  # before the work: see busy
    for name, view, own, result in (("take", exported, "export_as", "code"), ("ask", replies, "prompt", "replies")):
        event = wire(partial(view, api), inputs={own: w[own], **shown}, outputs={result: w[result]}, notice=w[result])
        w[name].click(**event | {"queue": True, "trigger_mode": "once"}).then(**done(line_id))
    w["stop"].click(**action(lambda: api.adapters.cancel_answers()))
    return shown


def press(change: Callable[[str], Any], run_or_sweep_id: str) -> None:
    """Change a run or a sweep, and return nothing, as an event without outputs must."""
    change(run_or_sweep_id)


def sweep_view(api: Api, sweep: Sweep, *, tolerance: str = "", metric: str = LOSS.key) -> View:
    """Draw the sweep so far, for `sweep_widgets` and the details on Runs. `is_busy` is True where the verdict or a
    price is not available yet.

    Args:
        api: Operations of the current visitor.
        sweep: The sweep to draw.
        tolerance: Text of its box, empty for the default.
        metric: Key of the metric that judges the sweep.
    """
    offered, by, unknown, reset = measured_metrics(sweep.runs), METRICS[metric], "", {}
    if by not in offered and any(run.loss_after for run in sweep.runs):
        unknown = notice_html(f"{by.label} was not measured in this sweep. {LOSS.label} is shown.")
        by, tolerance, reset = LOSS, "", {"value": ""}
    shown, ranks = judged(api, sweep, tolerance, by), ranks_in_words(sweep)
    mine = may_change(api, sweep)
    readable, shareable = mine or sweep.recorded, mine and api.workspace.shared
    ship, label = shown.adapter, ""
    if ship:
        label = f"Download the adapter {'of' if ship.r == ship.trained_r else 'truncated to'} r = {ship.r} (zip)"
    more = next_runs(api, sweep, shown.decision)
    environment = next((run.environment for run in sweep.runs if run.environment), {})
    whose = ""
    if api.workspace.shared and not sweep.recorded:
        owner = api.runs.owner_of(sweep.runs[0].run_id)
        others = f"This sweep belongs to {owner}." if owner else OF_ANOTHER
        whose = others if owner or not mine else COPY_IT if api.runs.is_open(sweep.sweep_id) else ""
    view = vars(shown) | more | {"summary": unknown + shown.summary, "is_busy": shown.is_busy or more["is_busy"]}
    return View(
        **view,
        sweep_box=gr.Column(visible=True),
        metric=gr.Dropdown(
            choices=[(each.label, each.key) for each in METRICS.values() if each in offered or each is by],
            visible=len(offered) > 1,
            **({"value": by.key} if reset else {}),  # an answer that comes late must not undo a later choice
        ),
        tolerance=gr.Textbox(label=tolerance_label(by), placeholder=f"{by.tolerance:g}", **reset),
        status=standing_html(api, sweep),
        cancel=gr.Button(
            f"Cancel this sweep (r = {ranks})",
            visible=mine and not sweep.ended and not api.runs.cancel_is_pending(sweep.runs),
        ),
        ship=gr.Button(label, visible=readable and ship is not None),
        **onward(api, sweep, shown, readable=readable),
        export=gr.Button(visible=readable and any(run.state.ended for run in sweep.runs)),
        share=gr.Checkbox(value=shareable and api.runs.is_open(sweep.sweep_id), visible=shareable),
        delete=gr.Button(visible=mine and sweep.ended),
        owner=html.paragraphs(whose) if whose else "",
        loss=chart_value(training_figure([sweep]), file="loss") if any(run.steps for run in sweep.runs) else "",
        facts=facts_html(sweep.runs, environment),
    )


def tolerance_label(metric: Metric) -> str:
    return f"Tolerance: counts as equal within ({metric.units}, or 2% of the gain over the base)"


def ranks_in_words(sweep: Sweep) -> str:
    """Return the ranks of a sweep as "4, 64", or as "1 to 64" if there are more than three."""
    ranks = sorted({run.request.r for run in sweep.runs})
    return ", ".join(map(str, ranks)) if len(ranks) <= 3 else f"{ranks[0]} to {ranks[-1]}"


# Whose it is.


def may_change(api: Api, sweep: Sweep) -> bool:
    """Return True where the visitor may cancel, extend, export and delete the sweep."""
    return not sweep.recorded and api.runs.is_mine(sweep.sweep_id)


def not_here(api: Api, run_or_sweep_id: str) -> str:
    """Return the one message for a run or sweep that does not exist, or that the visitor may not see."""
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    return f"No run or sweep {quoted(run_or_sweep_id)} here{closed}."


# State, place and cost.


def fingerprint(sweep: Sweep) -> int:
    """Return a hash of all that the page shows of a sweep; while the hash stays equal there is nothing to redraw."""
    places = [run.place and (run.place.engine, run.place.where, run.place.waits) for run in sweep.runs]
    runs = [(str(run.state), run.attempt, run.stage, len(run.steps), len(run.cuts), run.ended_at) for run in sweep.runs]
    return hash((sweep.sweep_id, *places, *runs))


def standing_html(api: Api, sweep: Sweep) -> str:
    """Show a sweep's state, why it waits or failed, its place, its cost so far (US dollars for a rented machine), and a
    note on a cancelled job that still costs money. While it runs, also its progress (a pulsing bar if the share is not
    known), the time left, and numbers of the current run."""
    state = html.prose(f"{state_of(sweep)} {api.runs.why_sweep_waits(sweep)}".strip())
    failed = next((run.error for run in sweep.runs if run.state is RunState.FAILED and run.error), "")
    how_far = ""
    if not sweep.ended:
        progress, running = api.runs.progress(sweep), sweep.running
        last = running.steps[-1] if running and running.steps else None
        pace, left = running and running.tokens_per_second, Cell(progress.left_in_words)
        known = {
            "Time left": "" if progress.trouble else left._replace(title=exact(progress.seconds_left or 0)),
            "This stage": progress.stage.partition(", ")[2],
            "Training loss": rounded(NATS, last.loss, PER_TOKEN) if last else "",
            "Tokens per second": f"{pace:,.0f}" if pace else "",
            "Memory in use": rounded(units.memory_size, last.memory_bytes, "bytes") if last else "",
        }
        bar = html.progress(progress.share, label="Share of the sweep")
        how_far = bar + html.named_values([pair for pair in known.items() if pair[1]], "rv-stats")
    words = ""
    if not sweep.recorded:
        doing, place = "Running" if sweep.running else "Ran" if sweep.ended else "Queued", place_of(api, sweep)
        costs = [api.engines.spent(sweep).sentence, api.engines.still_costs(sweep)]
        words = html.prose(" ".join(filter(None, [place and f"{doing} on {place}.", *costs])))
    return (
        f'<div class="rv-status"><h2>{escape(sweep_title(sweep))}</h2><p role="status">{state}</p>{how_far}'
        f"{notice_html(failed, kind='error')}</div>" + (f'<p class="rv-caption">{words}</p>' if words else "")
    )


def state_of(sweep: Sweep) -> str:
    """Return the state of a sweep as a sentence."""
    runs, running = sweep.runs, sweep.running
    if sweep.ended:
        counts = Counter(run.state for run in runs)
        (first, n), *others = [(state.value, counts[state]) for state in RunState if state in counts]
        ended = ", ".join([f"{units.counted(n, 'run')} {first}", *(f"{count} {state}" for state, count in others)])
        by_admin = " (cancelled by the admin)" if any(run.cancelled_by_admin for run in runs) else ""
        recorded = "Recorded by RankViz and shipped with it: " if sweep.recorded else ""
        time = f", {units.duration(sweep.seconds_in_runs)} in runs" if sweep.seconds_in_runs else ""
        return f"{recorded}{ended}{by_admin}{time}."
    if running is None:
        return "Queued."
    label, doing = run_labels(sweep)[running.run_id], running.stage or "starting"
    return f"Run {runs.index(running) + 1} of {len(runs)}, {label}: {doing}."


def trains_elsewhere(api: Api) -> bool:
    """Return whether the visitor can train on another engine than this machine."""
    return any(engine.name != LOCAL and not api.engines.why_not(engine.name) for engine in api.engines.known())


def place_of(api: Api, of: Sweep | RunRecord, elsewhere: bool | None = None) -> str:
    """Return where a sweep or a run is; "" for this machine where the visitor can train nowhere else. elsewhere: Result
    of `trains_elsewhere`, so that a list computes it once; None to compute it."""
    place = api.engines.places_in_words(of) if isinstance(of, Sweep) else api.engines.place_in_words(of)
    is_plain = place == title(LOCAL) and not (trains_elsewhere(api) if elsewhere is None else elsewhere)
    return "" if is_plain else place


# More runs of it.


def next_runs(api: Api, sweep: Sweep, decision: Decision | None) -> dict[str, Any]:
    """Return updates of the buttons `add` (a repeat, once all runs have ended) and `resume` (failed and cancelled
    runs), with their price on a rented machine. Off while it is computed; `is_busy` is then True."""
    sweep_id, offers = sweep.sweep_id, {}
    if may_change(api, sweep):
        r = decision.forecast.repeat_at if decision and sweep.ended else None
        if r is not None and not api.engines.why_not(api.engines.destination_of(sweep.runs).engine):
            offers["add"] = f"Add a repeat at r = {r}", partial(api.runs.plan_added, sweep_id, r)
        if sweep.resumable and not api.runs.cancel_is_pending(sweep.runs):
            again = units.counted(len(sweep.resumable), "failed or cancelled run")
            offers["resume"] = f"Train {again} again", partial(api.runs.plan_resume, sweep_id)
    updates: dict[str, Any] = {name: gr.Button(visible=False) for name in ("add", "resume")} | {"is_busy": False}
    for name, (label, check) in offers.items():
        price = _price(api, sweep_id, name, check)
        is_known = price != NO_PRICE_YET
        label += f" ({price})" if price else ""
        updates[name] = gr.Button(label, visible=True, interactive=is_known)
        updates["is_busy"] |= not is_known
    return updates


def _price(api: Api, sweep_id: str, button: str, check: Callable[[], Plan]) -> str:
    """Return "a job of $0.04 to 0.17" for a sweep that continues on a rented machine, NO_PRICE_YET while the price is
    computed, and empty for other engines. check: Returns the plan of the continued sweep."""
    with suppress(RankVizError):
        if api.runs.destination(sweep_id).engine != HF_JOBS:
            return ""
        answer = api.engines.ask(HF_JOBS, ("price", sweep_id, button), check)
        if answer is None:
            return NO_PRICE_YET
        if (offer := answer.result().offer) and offer.usd:
            return f"a job of {units.money_span(offer.usd)}"
    return ""


def add_run(api: Api, sweep_id: str) -> None:
    """Add the run that the button offers, computed again from the current state of the sweep."""
    decision = api.verdicts.decide(sweep_id)
    if decision is None or decision.forecast.repeat_at is None:
        raise UserError("No repeat is offered for this sweep.")
    api.runs.add(sweep_id, decision.forecast.repeat_at)


# What follows from its verdict.


def onward(api: Api, sweep: Sweep, shown: View, *, readable: bool) -> dict[str, Any]:
    """Return updates of what leads on from a verdict: the export of its rank, a longer training of it, and answers of
    its adapter. shown: Result of `judged`. readable: False for another visitor's sweep, of which nothing is taken."""
    r, goes_on, tried = shown.picked, readable and shown.picked is not None, shown.tried
    longer = goes_on and shown.longer_steps > sweep.runs[0].request.max_steps and not api.engines.why_none()
    label = f"Try it: your prompt, answered by the base and by the adapter of r = {tried[1]}" if tried else ""
    return {
        "onward": gr.Row(visible=goes_on),
        "take": gr.Button(f"Export r = {r}"),
        "longer": gr.Button(f"Train r = {r} longer ({shown.longer_steps:,} steps)", visible=longer),
        "trying": gr.Accordion(label=label, visible=bool(goes_on and tried and not sweep.recorded)),
    }


def judged_now(api: Api, sweep_id: str, tolerance: str = "", metric: str = LOSS.key) -> tuple[Sweep, View]:
    """Return a sweep and its verdict as the page shows them; UserError where no rank follows from it."""
    sweep = api.runs.sweep(sweep_id)
    shown = judged(api, sweep, tolerance, METRICS[metric])
    if shown.picked is None:
        raise UserError(shown.why_not or still_training(sweep) or "No run of this sweep has a loss yet.")
    return sweep, shown


def exported(api: Api, *, export_as: str, **shown_by: str) -> View:
    """Return a file that trains the rank of the verdict elsewhere, or merges its adapter. shown_by: Values of the
    widgets that `connect` returns."""
    sweep, shown = judged_now(api, **shown_by)
    return View(code=written_html(api.advice.export_of(sweep.sweep_id, shown.picked, export_as)))


def replies(api: Api, *, prompt: str, **shown_by: str) -> View:
    """Return the answers of the base and of the sweep's adapter to a prompt, side by side. shown_by: as above."""
    run_id, r = judged_now(api, **shown_by)[1].tried or ("", 0)
    answers, titles = api.adapters.answer(run_id, r, prompt), {"base": "Base", "adapter": f"Adapter of r = {r}"}
    boxes = (code_html(text if ended else f"{text} …", title=titles[name]) for name, (text, ended) in answers.items())
    return View(replies=f'<div class="rv-halves">{"".join(boxes)}</div>')


# What was measured.


def judged(api: Api, sweep: Sweep, tolerance: str = "", metric: Metric = LOSS) -> View:
    """Return a sweep's held-out quality by rank and its verdict, as far as the sweep has got. tolerance: as for
    api.verdicts.of_sweep; empty for the default, which also replaces an invalid one. Fast curves are judged by loss,
    with the default tolerance if another metric is shown.

    The view has fields of sweep_view: charts; `summary`, what to train and to ship, and how sure that is; `words`, all
    sentences; `above_best`, the table of independent runs. And `decision` by loss; `adapter`, the one to ship if its
    files are here; `why_not`, why runs cannot be compared, and `is_busy`, if that may pass.
    """
    sweep_id, within, problem = sweep.sweep_id, tolerance or None, ""
    view = View(**dict.fromkeys(("by_rank", "tradeoff", "words", "above_best", "why_not"), ""), is_busy=False)
    view.decision = view.adapter = view.picked = view.tried = None
    view.longer_steps = min(LONGER * sweep.runs[0].request.max_steps, api.workspace.limits.steps)
    try:
        try:
            verdict = api.verdicts.of_sweep(sweep_id, within, metric.key)
        except InvalidSettingError as error:
            problem = notice_html(f"{error} Shown with {metric.amount(metric.tolerance, 'g')}.", kind="error")
            within, verdict = None, api.verdicts.of_sweep(sweep_id, None, metric.key)
        reading = api.verdicts.fast_curve(sweep_id, within if metric is LOSS else None)
        view.decision = decision = api.verdicts.decide(sweep_id, within) if metric is LOSS else None
        drawn = verdict if sweep.ended else api.verdicts.of_runs([sweep.runs], metric)[0]
    except LimitError as error:
        view.summary, view.why_not = notice_html(str(error), kind="error"), str(error)
        view.is_busy = isinstance(error, BusyError)
        return view
    compares = verdict is not None and (len(verdict.ranks) > 1 or reading is None)
    ship, score = shipped(verdict, decision, reading), api.verdicts.score_look(sweep_id, metric)
    view.adapter = ship if ship and api.adapters.is_here(ship.run_id, ship.r) else None
    saved = [run for run in sweep.runs if run.adapter_path and run.loss_after]
    best = min(saved, key=lambda run: run.loss_after.loss, default=None)
    view.tried = (ship.run_id, ship.r) if ship else best and (best.run_id, best.request.r)
    judged_by_seeds, evaluated = compares and not verdict.unknown, [run for run in sweep.runs if run.loss_after]
    words = [
        _decision_html(decision) if decision else "",
        html.verdict(html.headlined([*reading.sentences, WHAT_A_FAST_CURVE_IS])) if reading else "",
        html.verdict(html.headlined(sentences(verdict))) if compares else "",
    ]
    view.words = "".join(reversed(words) if judged_by_seeds else words)
    if evaluated:
        picked = score.pick if score else decision.train.r if decision and not judged_by_seeds else None
        more = {"forecast": decision.forecast if decision else None, "picked": picked}
        by_verdict = verdict and (verdict.best if verdict.unknown else verdict.smallest_indistinguishable)
        of_curve = reading.chosen.r if reading and not compares else by_verdict
        view.picked = score.pick if score else decision.train.r if decision else of_curve
        view.by_rank = sweep_chart([(sweep, drawn)], height=HEIGHT, metric=metric, **more)
    if compares and len(verdict.ranks) > 1:
        view.above_best = verdict_table(verdict)
        if is_over_examples(sweep.runs, metric):
            view.above_best += html.paragraphs(f"Differences and the dots of the charts: {OVER_EXAMPLES}.")
        view.tradeoff = sweep_chart([(sweep, verdict)], x="adapter", metric=metric, height=HEIGHT)
    steps = min((run.request.max_steps for run in evaluated), default=0)
    looks = {"steps": steps, "rate": api.verdicts.rate_look(sweep_id), "score": score}
    answers = summary(verdict, decision, reading, **looks)
    view.summary = problem
    if not sweep.ended:
        view.summary += html.paragraphs(still_training(sweep)) if evaluated else ""
    elif answers:
        sizes = ["" if each.file_bytes is None else exact(each.file_bytes, "bytes") for each in answers]
        values = [Cell(each.value, title=size) for each, size in zip(answers, sizes, strict=True)]
        each_with = zip(answers, values, strict=True)
        view.summary += html.figures([(each.about, value, each.sentence) for each, value in each_with])
    return view


def _decision_html(decision: Decision) -> str:
    answers = [("Rank", decision.train_sentences), ("Adapter", decision.ship_sentences)]
    columns = "".join(f"<div>{html.titled(name, html.headlined(words))}</div>" for name, words in answers if words)
    forecast = html.titled("Forecast between the runs", html.bullet_list(decision.forecast.sentences))
    return html.verdict(f'<div class="rv-halves">{columns}</div>{forecast}')


def verdict_table(verdict: Verdict) -> str:
    """Return a table of each rank's difference from the best rank, paired by seed, with its 95 % interval."""
    metric, rows = verdict.metric, []
    digits, side = (1, "Below") if metric.higher_is_better else (4, "Above")
    for rank in verdict.ranks:
        low, high, is_best = rank.above_best_low, rank.above_best_high, rank.r == verdict.best
        _, words, _ = MARKS[BEST if is_best else rank.call]
        span = f"{low:+.{digits}f} to {high:+.{digits}f}" if low is not None else units.NOT_KNOWN
        words = words if is_best or low is not None else units.NOT_KNOWN
        cells = [f"r = {rank.r}", f"{rank.above_best:+.{digits}f}", "" if is_best else span, Cell(words, kind="left")]
        rows.append(Row(cells, chosen=is_best))
    headers = ["Rank", f"{side} r = {verdict.best}, {metric.units}", "95 % interval", "Verdict"]
    heading = "Difference from the best rank"
    return html.titled(heading, html.table(headers, rows, label=heading))


def answers_html(sweep: Sweep) -> str:
    """Compare held-out answers of the base, the lowest rank and the highest rank, each by its run with the lowest
    held-out loss; empty without answers."""
    complete = [run for run in sweep.runs if run.completed and run.loss_after and run.adapter_path]
    best = {run.request.r: run for run in sorted(complete, key=lambda run: run.loss_after.loss, reverse=True)}
    ranks, rows = sorted(best), []
    ends = [  # no further ones, since answers are read from the disk
        next((best[r] for r in side if any(answer.after for answer in best[r].answers)), None)
        for side in (ranks, reversed(ranks))
    ]
    if None in ends:
        return ""
    shown = ends[: 1 + (ends[0] is not ends[1])]
    by_place = [{answer.place: answer.after for answer in run.answers} for run in shown]
    headers = ["Held-out prompt", "Reference", "Base", *(f"r = {run.request.r}" for run in shown)]
    for answer in shown[0].answers:
        texts = [answer.prompt, answer.reference]
        for greedy in (answer.before, *(answers.get(answer.place) for answers in by_place)):
            texts.append(f"{greedy.text.strip() or '(empty)'}{'' if greedy.ended else ' …'}" if greedy else "–")
        rows.append([Cell(text, kind="wrap") for text in texts])
    return html.titled("Answers before and after training", html.table(headers, rows, label="Answers", left=2))


def facts_html(runs: Sequence[RunRecord], environment: Mapping[str, Any]) -> str:
    """Build the folded configuration and environment of one run or of a sweep's runs; differing values are listed."""
    left_out = ("run_id", "sweep_id", "created_at", "base", "data")
    settings = [{k: v for k, v in asdict(run.request).items() if k not in left_out} for run in runs]
    return "".join(
        html.folded(heading, f'<div class="rv-facts">{html.named_values(pairs, css="")}</div>')
        for heading, pairs in (("Configuration", _flat(*settings)), ("Environment", _flat(environment)))
        if pairs
    )


def _flat(*rows: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return each name in these and nested mappings with its different values as text, without empty ones."""
    values: dict[str, dict[str, None]] = {}
    for row in rows:
        nested = [each for each in row.values() if isinstance(each, Mapping)]
        for name, value in [*row.items(), *(pair for each in nested for pair in each.items())]:
            if not isinstance(value, Mapping) and value is not False and value not in (None, "", ()):
                values.setdefault(name.replace("_", " "), {})[listed(value)] = None
    return [(name, ", ".join(texts)) for name, texts in values.items()]


def listed(value: Any) -> str:
    """Return a value as text; the entries of a list separated by commas."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
