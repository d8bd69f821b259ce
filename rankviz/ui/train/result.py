"""Shows what a finished run leaves: answers before and after training, and where its adapter lies."""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.events import GreedyAnswer
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import code_html
from rankviz.ui.parts.html import Cell, Row


def best_of_each_rank(sweep: Sweep) -> Sequence[RunRecord]:
    """The completed run with the lowest held-out loss of each rank, by rank."""
    done = [run for run in sweep.runs if run.completed and run.loss_after and run.adapter_path]
    by_rank: dict[int, RunRecord] = {}
    for run in sorted(done, key=lambda run: run.loss_after.loss):
        by_rank.setdefault(run.request.r, run)
    return [by_rank[r] for r in sorted(by_rank)]


def adapters_html(api: Api, sweep: Sweep) -> str:
    """The adapter of each rank: its size, the folder it lies in (of one's own machine), and where to open it. An
    imported run comes without its adapter."""
    runs = [run for run in best_of_each_rank(sweep) if api.adapters.is_here(run.run_id, run.request.r)]
    return html.titled("Adapters", "".join(_adapter(api, run) for run in runs)) if runs else ""


def _adapter(api: Api, run: RunRecord) -> str:
    name = f"Adapter at r = {run.request.r}, {units.file_size(run.adapter_bytes)}"
    address = f"?tab=adapter&amp;adapter={quote(run.run_id)}"
    link = f'<p class="rv-caption"><a href="{address}">{escape(f"Open r = {run.request.r} on Adapter")}</a></p>'
    folder = api.runs.folder(run.run_id)
    if folder is None:
        return html.paragraphs(name) + link
    return code_html(str(folder / run.adapter_path), title=name, caption=link)


def answers_html(sweep: Sweep) -> str:
    """Held-out prompts with the base's answer and that of the lowest and the highest rank; nothing where none were
    written."""
    answered = [run for run in best_of_each_rank(sweep) if any(answer.after for answer in run.answers)]
    if not answered:
        return ""
    shown = answered if len(answered) < 3 else [answered[0], answered[-1]]
    by_place = [{answer.place: answer for answer in run.answers} for run in shown]
    headers = ["Held-out prompt", "Reference", "Base", *(f"r = {run.request.r}" for run in shown)]
    rows = []
    for answer in shown[0].answers:
        texts = [answer.prompt, answer.reference, _answer(answer.before)]
        texts += [_answer(answers[answer.place].after if answer.place in answers else None) for answers in by_place]
        rows.append(Row([Cell(text, kind="wrap", column=name) for text, name in zip(texts, headers, strict=True)]))
    return html.titled("Answers before and after training", html.table(headers, rows, label="Answers", left=2))


def _answer(answer: GreedyAnswer | None) -> str:
    """Greedy; an answer that was cut off ends with three dots."""
    if answer is None:
        return "–"
    text = answer.text.strip() or "(empty)"
    return text if answer.ended else f"{text} …"
