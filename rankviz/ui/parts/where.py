"""Where a sweep runs, what it has cost there, and what whoever looks at it may do with it."""

import re
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import EngineChoice, Plan
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import title
from rankviz.errors import (
    BusyError,
    EngineUnavailableError,
    HubUnavailableError,
    RankVizError,
    StorageError,
    WorkerError,
    quoted,
)
from rankviz.settings import TEMP_HOURS
from rankviz.store.temp import Usage
from rankviz.ui.events import toast
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import notice_html

NAMES = ("engine", "flavor", "spend")
ASK_AGAIN_SECONDS = 0.7
BUSY_SECONDS = 15.0
"""Until it is asked again where others have all places."""
BUSY = "busy"
"""For the hash of what was drawn without its verdict, as others had all places: it is drawn again."""
BOX = "rv-where"
"""Of the boxes of the choice: what was asked about another choice is no longer answered (assets/js/newest.js)."""
ASKING = '<div class="rv-caption" role="status"><p>Asking for time, memory and cost there …</p></div>'
NO_FLAVOR = "Hugging Face has no machine {}, which RANKVIZ_JOBS_FLAVOR names. Choose one of the list."
OPTION = re.compile(r"\(?--[\w-]+(?:=[^\s,)]+)?[,)]*")
"""Of a command, with the marks that touch it."""


class Found(NamedTuple):
    """What a sweep takes in the place that is chosen, or why it cannot run there."""

    plan: Plan | None = None
    error: RankVizError | None = None
    machines: Sequence[tuple[str, str]] = ()
    """Choices of the drop-down, where they are rented."""

    @property
    def may_start(self) -> bool:
        """Whether it is worth a try."""
        return self.error is None or may_pass(self.error)


def may_pass(error: RankVizError) -> bool:
    """Whether a try may succeed though nothing is changed: what cannot be reached or done now may be in a moment."""
    return isinstance(error, BusyError | EngineUnavailableError | HubUnavailableError | StorageError | WorkerError)


def widgets(api: Api, *, limit_label: str, elem_id: str) -> dict[str, Any]:
    """Build it: the places, machine and limit of a rented one, what happens there, and the timer that asks again."""
    w: dict[str, Any] = {}
    known = [api.engines.place(engine.name) for engine in api.engines.known()]
    w["engine"] = gr.Radio(
        choices(known), value=known[0].name, label="Runs on", elem_id=f"{elem_id}-choice", elem_classes=BOX
    )
    with gr.Column(visible=False) as w["terms"], gr.Row(elem_classes="rv-pair"):
        w["flavor"] = gr.Dropdown(
            [],
            value=None,
            label="Machine",
            interactive=True,
            min_width=160,
            elem_id=f"{elem_id}-flavor",
            elem_classes=BOX,
        )
        w["spend"] = gr.Number(
            api.workspace.settings.jobs_spend,
            label=limit_label,
            min_width=100,
            elem_id=f"{elem_id}-spend",
            elem_classes=BOX,
        )
    w["about"] = plain(elem_id=f"{elem_id}-about")
    w["again"] = gr.Timer(ASK_AGAIN_SECONDS, active=False)
    return w


def choices(places: list[EngineChoice]) -> list[tuple[str, str]]:
    return [(place.title, place.name) for place in places]


def is_asked(api: Api) -> bool:
    """Whether there is more to choose than this machine."""
    return [place.name for place in api.engines.offered()] not in ([], [LOCAL])


def about_html(about: str) -> str:
    """What happens there. An option of a command stays on one line."""
    if not about:
        return ""
    words = OPTION.sub(
        lambda option: f'<span style="display: inline-block">{option[0]}</span>', escape(about, quote=False)
    )
    return f'<div class="rv-caption"><p>{words}</p></div>'


def find(
    api: Api, question: Hashable, check: Callable[..., Plan], *, engine: str, flavor: str | None, spend: float | None
) -> Found | None:
    """What a sweep takes there; None while that is being asked.

    question: the same for the same sweep. check: what it takes on an engine, by its name and terms.
    """

    def ask() -> Found:
        machines = _machines(api) if engine == HF_JOBS else ()
        try:
            return Found(check(engine, **terms(engine, flavor, spend)), None, machines)
        except RankVizError as error:
            return Found(None, error, machines)

    answer = api.engines.ask(engine, (engine, flavor, spend, question), ask)
    return answer and answer.get()


def asking_html(api: Api, engine: str) -> str:
    """While it is being asked."""
    title = api.engines.place(engine).title
    return f'<div class="rv-caption" role="status"><p>Asking {escape(title)} for time, memory and cost …</p></div>'


def _machines(api: Api) -> list[tuple[str, str]]:
    """What can be rented, with today's prices. What cannot be read is said where the cost stands."""
    with suppress(RankVizError):
        return [(f"{each.name}, {units.usd(each.usd_per_hour)}/h", each.name) for each in api.jobs.flavors()]
    return []


def machines(api: Api, found: Found, chosen: str | None, *, is_new: bool = False) -> Any:
    """The drop-down of machines. A choice that can stay is not sent back, as it may be an older one.

    is_new: where the drop-down does not hold the choice yet.
    """
    names = [name for _, name in found.machines]
    if not names:
        return gr.skip()
    usual = api.workspace.settings.jobs_flavor
    value = next(name for name in (chosen, usual, names[0]) if name in names)
    return gr.Dropdown(list(found.machines), **({} if value == chosen and not is_new else {"value": value}))


def note(api: Api, found: Found) -> str:
    """What is wrong with the settings of this page, for its owner: another machine is chosen."""
    names, usual = [name for _, name in found.machines], api.workspace.settings.jobs_flavor
    if not names or usual in names or not api.workspace.visitor.admin:
        return ""
    return notice_html(NO_FLAVOR.format(quoted(usual)))


def machine(flavor: str) -> gr.Dropdown:
    """The drop-down with a machine that a sweep has, before prices are known."""
    return gr.Dropdown([(flavor, flavor)], value=flavor)


def terms(engine: str, flavor: str | None, spend: float | None) -> dict[str, Any]:
    """What the widgets hold, where a rented machine is chosen."""
    return {"flavor": flavor or "", "spend": spend} if engine == HF_JOBS else {}


def of_sweep(api: Api, sweep_id: str) -> dict[str, Any]:
    """Updates of the choice to where a sweep is, with its machine and limit; none where whoever asks cannot choose
    that."""
    there = api.moves.destination(sweep_id)
    engine = api.engines.name(there.engine)
    if engine not in [place.name for place in api.engines.offered()]:
        return {}
    if engine != HF_JOBS:
        return {"engine": engine}
    limit = api.spending.limit(api.runs.sweep(sweep_id)) or api.workspace.settings.jobs_spend
    flavor = there.options.get("flavor") or api.workspace.settings.jobs_flavor
    return {"engine": engine, "flavor": machine(flavor), "spend": limit}


def place_html(api: Api, sweep: Sweep) -> str:
    """Where a sweep runs, waits or ran, and what it has cost so far, of a rented machine in US dollars; that its job
    ends before its runs do, or after them."""
    if sweep.recorded:
        return ""
    standing = standing_on(api, sweep)
    spent = api.spending.of_sweep(sweep)
    cost = spent.sentence(api.locations.engine_of_sweep(sweep) if standing else "")
    once = not spent.rent and spent.attempts == len(spent.attempts_of_each)
    if sweep.ended and once and spent.time.in_words == units.duration(sweep.seconds_in_runs):
        cost = ""  # the sentence that it has ended tells this time
    words = " ".join(filter(None, [standing, cost, api.jobs.ends_early(sweep), api.jobs.still_costs(sweep)]))
    return f'<p class="rv-caption">{html.prose(words)}</p>' if words else ""


def standing_on(api: Api, sweep: Sweep) -> str:
    """ "Running on this machine (GPU 0 and GPU 1)."; empty where that goes without saying."""
    doing = "Running" if sweep.running else "Ran" if sweep.ended else "Queued"
    if sweep.ended and not any(run.begun_attempts for run in sweep.runs):
        doing = "It was to run"
    return f"{doing} on {words}." if (words := telling(api)(api.locations.of_sweep(sweep))) else ""


def telling(api: Api) -> Callable[[str], str]:
    """A place in words as it is; "" instead of this machine, where whoever asks can train nowhere else."""
    others = any(engine.name != LOCAL and not api.engines.why_not(engine.name) for engine in api.engines.known())
    silent = "" if others else title(LOCAL)
    return lambda place: "" if place == silent else place


def place_in_sentences(api: Api, run: RunRecord) -> str:
    """Where a run is or was, why it waits, and what it has cost so far."""
    sweep = api.runs.sweep(run.request.sweep_id)
    if sweep.recorded:
        return ""
    place = telling(api)(api.locations.in_words(run))
    named = api.locations.of(run).engine if place else ""
    spent = api.spending.of_run(run).sentence(named)
    sentences = [f"Place: {place}." if place else "", api.runs.why_waits(run), spent]
    if (of_sweep := api.spending.of_sweep(sweep)).rent:
        sentences.append(f"Its sweep: {of_sweep.in_words_after(named)}; a job is billed as a whole, not by run.")
    return " ".join(filter(None, sentences))


SHARE = "Share: anyone who has the link can read this sweep"
COPY_IT = "Copy link, at the top of the page, copies the address of this sweep."
OF_ANOTHER = "This sweep belongs to another visitor, who shares it: you can read it, not change it."


def not_here(api: Api, run_or_sweep_id: str) -> str:
    """Of what whoever looks may not see, which is answered as what isn't there."""
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    return f"No run or sweep {quoted(run_or_sweep_id)} here{closed}."


def may_change(api: Api, sweep: Sweep) -> bool:
    """Whether whoever looks at it may cancel, extend, export and delete it."""
    return not sweep.recorded and api.runs.is_mine(sweep.sweep_id)


def cancel(api: Api, run_or_sweep_id: str) -> None:
    """Cancel a run or a sweep. Where that is not possible now and the wish is kept, a note says so, and no error."""
    try:
        api.runs.cancel(run_or_sweep_id)
    except (EngineUnavailableError, WorkerError) as error:
        is_sweep = api.runs.is_sweep(run_or_sweep_id)
        runs = api.runs.sweep(run_or_sweep_id).runs if is_sweep else [api.runs.get(run_or_sweep_id)]
        if not all(run.state.ended for run in runs) and not api.runs.are_unwanted(runs):
            raise
        gr.Info(toast(error), duration=10)


def kept_words(api: Api) -> str:
    """How long the runs and uploads of visitors stay; nothing on a page of one's own."""
    days = api.workspace.limits.days_kept
    if not api.workspace.shared or days is None:
        return ""
    hours = units.counted(TEMP_HOURS, "hour")
    return html.paragraphs(
        f"Your runs stay for {units.counted(days, 'day')} after they end. Imported runs and runs that did not complete "
        "are removed sooner, the oldest first, when this server is full. Download the runs that you want to keep. "
        f"Files that you upload stay for {hours}, unless you delete them."
    )


def uploads_button(uploads: Usage) -> gr.Button:
    """It deletes what is still here."""
    size = f"{units.counted(uploads.files, 'file')}, {units.file_size(uploads.size_bytes)}"
    return gr.Button(f"Delete my uploads ({size})", visible=bool(uploads.files))


def share_box(api: Api, sweep: Sweep, mine: bool) -> gr.Checkbox:
    """On a shared page, for its owner."""
    shown = mine and api.workspace.shared
    return gr.Checkbox(value=shown and api.runs.is_open(sweep.sweep_id), visible=shown)


def words_on_owner(api: Api, sweep: Sweep, mine: bool) -> str:
    """Whose it is, where that is not plain; nothing on a page of one's own."""
    if not api.workspace.shared or sweep.recorded:
        return ""
    if not mine:
        return html.paragraphs(OF_ANOTHER)
    if owner := api.runs.owner_of(sweep.runs[0].run_id):
        return html.paragraphs(f"This sweep belongs to {owner}.")
    return html.paragraphs(COPY_IT) if api.runs.is_open(sweep.sweep_id) else ""
