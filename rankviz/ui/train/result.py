"""Shows what a finished run leaves: answers before and after training, and where its adapter lies."""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import code_html


def best_of_each_rank(sweep: Sweep) -> Sequence[RunRecord]:
    """The completed run with the lowest held-out loss of each rank, by rank."""
    done = [run for run in sweep.runs if run.completed and run.loss_after and run.adapter_path]
    by_rank: dict[int, RunRecord] = {}
    for run in sorted(done, key=lambda run: run.loss_after.loss):
        by_rank.setdefault(run.request.r, run)
    return [by_rank[r] for r in sorted(by_rank)]


def adapters_html(api: Api, sweep: Sweep) -> str:
    """The adapter of each rank: its size, the folder it lies in (of one's own machine), and where to open it."""
    runs = best_of_each_rank(sweep)
    if not runs or sweep.recorded:
        return ""
    return html.titled("Adapters", "".join(_adapter(api, run) for run in runs))


def _adapter(api: Api, run: RunRecord) -> str:
    name = f"Adapter at r = {run.request.r}, {units.file_size(run.adapter_bytes)}"
    address = f"?tab=adapter&amp;adapter={quote(run.run_id)}"
    link = f'<p class="rv-caption"><a href="{address}">{escape(f"Open r = {run.request.r} on Adapter")}</a></p>'
    if api.workspace.shared:
        return html.paragraphs(name) + link
    folder = api.workspace.store.run_dir(run.run_id) / run.adapter_path
    return code_html(str(folder), title=name, caption=link)
