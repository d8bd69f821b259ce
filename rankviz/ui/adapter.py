"""The Adapter tab: opens a trained adapter, shows which rank it really uses, and offers truncation to a lower rank.
The page's address names the adapter, except for uploads, so that a reload shows the same adapter."""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from html import escape
from statistics import median
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.adapters import SAMPLE
from rankviz.core.bounds import name_alone
from rankviz.core.runs.metric import TOLERANCE_NATS
from rankviz.core.runs.record import RunRecord, base_name, data_name
from rankviz.core.spectrum import MOST, NEARLY_ALL, TERMS, Losses, Spectrum, Truncation, in_words, proposed_rank
from rankviz.errors import BadAdapterError, BusyError, InvalidSettingError, RankVizError
from rankviz.figures import energy_figure, modules_figure, spectrum_figure
from rankviz.figures.adapter import hardest_module, share_text
from rankviz.trained.plan import ResizePlan
from rankviz.ui.parts import html
from rankviz.ui.parts.html import Cell, Row, exact, notice_html, rounded
from rankviz.ui.parts.widgets import (
    busy,
    busy_line,
    chart,
    chart_value,
    done,
    file_button,
    handed,
    hidden,
    pickable,
    plain,
)
from rankviz.ui.wiring import CLICKED, QUIET, View, action, of_click, put, wire
from rankviz.units import rounded_percent as percent

READING = 'RankViz.busy("adapter-busy", "Reading the adapter…")'
"""JavaScript that shows a notice if reading the adapter takes more than half a second."""
BUSY_OF_THE_ADDRESS = f"""() => {{
  if (new URL(location.href).searchParams.get("adapter")) {READING};
}}"""
OF_TEXT = f"(text, source) => {{ {READING}; return text || source; }}"
OF_FILES = f"""(files, source) => {{
  {READING};
  return files?.length ? JSON.stringify(files.map((file) => file.path)) : source;
}}"""
"""JavaScript: paths of the uploaded files as a JSON list. Removing files from the box keeps the current source."""
MAX_DIGITS = 10
"""Maximum digits of the number in a clicked id."""
CAUTION = "Energy describes the weights, not the loss: evaluate the resized adapter before you use it."
ENERGY_HEIGHT, HEAT_HEIGHT, VALUES_HEIGHT = 400, 250, 320


def build(api: Api) -> View:
    """Build the tab. Return `load` (fills `loaded` with the adapter that the address names), `choices` (lists runs
    when the tab opens) and `source`, a widget that the page writes into its address after each event in `opened`."""
    w: dict[str, Any] = {}
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question"):
            label = "Trained adapter (both files, or a zip)"
            files = gr.File(label=label, file_count="multiple", height=150, elem_id="adapter-files")
            label = "Hub id" if api.workspace.shared else "Hub id, folder, zip or run"
            hint = "owner/name, then press Enter"
            ref = gr.Textbox(label=label, placeholder=hint, max_lines=1, elem_id="adapter-ref")
            runs = gr.Dropdown([], value=None, label="Sample or finished run", elem_id="adapter-runs")
            busy_line("adapter-busy")
        with gr.Column(elem_classes="rv-answer"):
            w["notice"] = plain(elem_id="adapter-notice")
            w["top"] = plain(elem_id="adapter-top")
            with gr.Row(elem_classes="rv-bar"):
                w["sample"] = gr.Button("Open the sample adapter", variant="primary", elem_id="adapter-sample")
            # Not inside the parts: what becomes visible there shows it too.
            zipped = file_button("adapter-zip")
            with gr.Column(visible=False, elem_id="adapter-parts") as w["parts"]:
                with gr.Row(elem_classes="rv-charts"):
                    looks = {"height": ENERGY_HEIGHT, "elem_id": "adapter-energy-kept"}
                    w["energy_chart"] = chart("Energy kept by rank", **looks)
                    with gr.Column(elem_id="adapter-lower"):
                        plain('<h2 class="rv-section">Make it smaller</h2>')
                        w["choices"] = pickable(elem_id="adapter-choices")
                        looks = {"interactive": False, "variant": "primary", "elem_id": "adapter-resize"}
                        w["make"] = gr.Button("Resize", **looks)
                        busy_line("resize-busy")
                        made = plain(html.paragraphs(CAUTION), elem_id="adapter-made")
                w["heat"] = chart("Modules by block", height=HEAT_HEIGHT, elem_id="adapter-heat")
                title = "Details: singular values"
                with gr.Accordion(title, open=False) as more:
                    looks = {"height": VALUES_HEIGHT, "elem_id": "adapter-values", "optional": True}
                    w["values"] = chart("Singular values of one module", **looks)
    source, choice, cell = hidden(elem_id="adapter-source"), hidden(), gr.State("")
    inputs = {"source": source, "choice": choice, "cell": cell}
    drawing = wire(partial(shown, api), inputs=inputs, outputs=w)
    opening = {"fn": lambda: ("", "", html.paragraphs(CAUTION)), "outputs": [choice, cell, made], **QUIET}

    of_sample = f"() => {{ {READING}; return [{SAMPLE!r}, {SAMPLE!r}]; }}"
    located = [
        files.change(None, [files, source], source, js=OF_FILES),
        ref.submit(None, [ref, source], source, js=OF_TEXT),
        runs.input(None, [runs, source], source, js=OF_TEXT),
        w["sample"].click(None, None, [source, runs], js=of_sample),
    ]
    opened = [each.then(**opening).then(**drawing).then(**done("adapter-busy")) for each in located]

    picked = of_click(lambda name: name)
    for offers in (w["choices"], w["energy_chart"]):
        offers.select(picked, None, choice, **CLICKED).then(**drawing)
    selected = w["heat"].select(picked, None, cell, **CLICKED).then(**drawing)
    selected.then(lambda: gr.Accordion(open=True), None, more, **QUIET)
    w["make"].click(**busy("resize-busy", "Resizing…"))
    resizing = {"inputs": [source, choice], "outputs": [zipped, made], **action(partial(zip_of, api))}
    w["make"].click(**resizing).then(**done("resize-busy")).success(**handed(zipped))
    filled = {"source": source, "ref": ref, "runs": runs, **w}

    # Closures, since Gradio finds gr.Request by the function's own type hints and loses it in a partial.
    def load(request: gr.Request) -> dict[Any, Any]:
        """Open the adapter that the page's address names."""
        ref = request.query_params.get("adapter", "")[:300]
        if not ref:
            return put({}, filled)
        named = {"source": ref, "ref": "" if ref == SAMPLE else ref, "runs": run_choices(api, chosen=ref)}
        return put(named | vars(shown(api, source=ref)), filled)

    def choose_from(shown: str, request: gr.Request) -> list[Any]:
        """List the adapters, and say what to do if none is open. Called on opening the tab, since it reads files."""
        is_open = shown or request.query_params.get("adapter", "")
        return [run_choices(api), gr.skip() if is_open else empty_html(api.adapters.sample())]

    return View(
        load=load,
        loaded=list(filled.values()),
        choices={"fn": choose_from, "inputs": source, "outputs": [runs, w["top"]], **QUIET},
        source=source,
        opened=opened,
    )


def ref_of(source: str) -> str | list[str]:
    """Convert the page's source text to an API reference: a JSON list becomes a list of file paths."""
    with suppress(ValueError, RecursionError):
        paths = json.loads(source)
        if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
            return paths
    return source


def address_of(source: str) -> str:
    ref = ref_of(source)
    return json.dumps({"adapter": ref if isinstance(ref, str) and ref else None})


def run_choices(api: Api, *, chosen: str = "") -> Any:
    """Return the dropdown of the sample and the finished runs with adapters here; select `chosen` if it is listed."""

    def words(run: Any) -> str:
        return f"r = {run.request.r}, {base_name(run.request.base)} on {data_name(run.request.data)}"

    sample = (f"Sample: {words(api.adapters.sample())}", SAMPLE)
    choices = [sample, *((words(run), run.run_id) for run in api.adapters.runs())]
    selected = {"value": chosen} if chosen in {value for _, value in choices} else {}
    return gr.Dropdown(choices=choices, **selected)


def choice_of(api: Api, source: str | list[str], choice: str) -> tuple[Truncation, bool, str]:
    """Parse a clicked choice: "r8" is rank 8, "e99" is 99 % energy. Any other text gives the proposed rank. Return also
    whether a rank is recommended, and a sentence on it."""
    kind, number, spectrum = choice[:1], choice[1:], api.adapters.spectrum(source)
    losses = {r: loss for r, (loss, steps) in api.adapters.truncated_losses(source).items() if not steps}
    good = [r for r, loss in losses.items() if loss <= min(losses.values()) + TOLERANCE_NATS]
    with api.adapters.looking(spectrum):
        r, recommended, words = proposed_rank(spectrum, good if len(losses) > 1 else None)
    chosen = Truncation(r=r)
    if len(number) <= MAX_DIGITS and kind == "r" and number.isdecimal():
        chosen = Truncation(r=int(number))
    elif len(number) <= MAX_DIGITS and kind == "e" and number.replace(".", "", 1).isdecimal():
        chosen = Truncation(energy=float(number) / 100)
    return chosen, recommended, words


def zip_of(api: Api, source: str, choice: str) -> tuple[str, str]:
    """Write the resized adapter as a zip; return its path and a notice as HTML."""
    ref = ref_of(source)
    plan = api.adapters.plan_resize(ref, **choice_of(api, ref, choice)[0]._asdict())
    path = api.adapters.zip_resized(ref, plan)
    words = (
        f"{path.name} has {_ranks(plan)} and {plan.adapter_bytes:,} bytes of weights. Unpack it and load it with "
        "PeftModel.from_pretrained(base, folder), then compare its answers with those of the original."
    )
    return str(path), notice_html(words)


def shown(api: Api, *, source: str, choice: str = "", cell: str = "") -> View:
    """Draw the right column, or an error in its place. cell: name of the chosen module."""
    ref, notice = ref_of(source), ""
    try:
        opened = api.adapters.open(ref) if ref else None
    except RankVizError as error:
        opened, notice = None, notice_html(str(error), kind="error")
    if opened is None:
        top = empty_html(api.adapters.sample())
        return View(notice=notice, top=top, sample=gr.Button(visible=True), parts=gr.Column(visible=False))
    spectrum, plan, refused = opened.spectrum, None, ""
    try:
        wanted, recommended, words = choice_of(api, ref, choice)
        try:
            plan = api.adapters.plan_resize(ref, **wanted._asdict())
        except (BadAdapterError, InvalidSettingError) as error:
            refused = str(error)
        measured = api.adapters.truncated_losses(ref)
        with api.adapters.looking(spectrum):
            ranks = {layer.name: plan.rank_by_module[layer.module] for layer in spectrum.layers} if plan else {}
            module = next((layer for layer in spectrum.layers if layer.name == cell), None) or hardest_module(spectrum)
            r, name = wanted.r or max(1, spectrum.rank_for(wanted.energy)), module.name
            heat = modules_figure(spectrum, r=r, ranks=ranks, chosen=name, height=HEAT_HEIGHT)
            energy = energy_figure(spectrum, measured, r=wanted.r, height=ENERGY_HEIGHT)
            values = spectrum_figure(spectrum, module=name, r=ranks.get(name), height=VALUES_HEIGHT)
            table = choices_html(spectrum, opened.truncations, plan, measured)
    except BusyError as error:
        return View(notice=notice_html(str(error), kind="error"))
    text = f"Resize to {_ranks(plan)} and download ({units.file_size(plan.adapter_bytes)})" if plan else "Resize"
    return View(
        notice=notice_html(*spectrum.notes),
        top=top_html(spectrum, opened.run),
        sample=gr.Button(visible=False),
        parts=gr.Column(visible=True),
        energy_chart=chart_value(energy, file="energy-by-rank"),
        choices=f"{notice_html(words)}{table}{notice_html(refused, kind='error')}",
        make=gr.Button(text, variant="primary" if recommended else "secondary", interactive=plan is not None),
        heat=chart_value(heat, file="adapter-modules"),
        values=chart_value(values, file="singular-values"),
    )


def empty_html(sample: RunRecord) -> str:
    """Say what to do when no adapter is open, and describe the sample."""
    real = f"{base_name(sample.request.base)}, r = {sample.request.r}, {training_text(sample)}"
    return html.empty(
        "Open a trained LoRA adapter to see which rank it really uses, and to make it smaller.",
        f"The sample is a real adapter: {real}.",
        "RankViz reads adapter_config.json and adapter_model.safetensors. The base model is not needed.",
    )


def training_text(run: RunRecord) -> str:
    """Describe a run as "400 steps on phonemes, learning rate 0.001, held-out loss 4.21 → 0.95 nats"."""
    text = f"{run.steps_done} steps on {data_name(run.request.data)}, learning rate {run.request.learning_rate:g}"
    if run.loss_before and run.loss_after:
        text += f", held-out loss {run.loss_before.loss:.2f} → {run.loss_after.loss:.2f} nats"
    return text


def top_html(spectrum: Spectrum, run: RunRecord | None) -> str:
    """Show the adapter's name and origin, five numbers, and up to three sentences on what the numbers mean."""

    def measure(name: str, attribute: str) -> tuple[str, str | Cell, str]:
        values = [getattr(layer, attribute) for layer in spectrum.used]
        if not values:
            return name, "–", "no updated module"
        ends = f"median; {min(values):.1f} to {max(values):.1f} by module"
        return name, rounded("{:.1f}".format, median(values), ""), ends

    low, high = min(layer.scale for layer in spectrum.layers), max(layer.scale for layer in spectrum.layers)
    scale = f"scale {low:.4g}" if low == high else f"scale {low:.4g} to {high:.4g}"
    nearly, most = "–", "no update"
    if spectrum.used:
        nearly = f"r = {spectrum.rank_for(NEARLY_ALL)}"
        most = f"{percent(MOST, 0)}: r = {spectrum.rank_for(MOST)}"
    dead = spectrum.dead
    names = ", ".join(dead[:4]) + (f" and {len(dead) - 4} more" if len(dead) > 4 else "")
    row = [
        ("Trained rank", f"r = {spectrum.r}", f"α {spectrum.lora_alpha:g}, {scale}, {spectrum.dtype}"),
        (f"Rank for {percent(NEARLY_ALL, 0)} of the energy", nearly, most),
        measure("Effective rank", "effective_rank"),
        measure("Stable rank", "stable_rank"),
        ("Modules without an update", f"{len(dead)} of {len(spectrum.layers)}", names or "every module is updated"),
    ]
    base = name_alone(spectrum.base_model)
    steps = f"{spectrum.training_steps:,} steps" if spectrum.training_steps else ""
    origin = [spectrum.name, units.file_size(spectrum.file_bytes), base and f"on {base}"]
    words = ", ".join(filter(None, [*origin, training_text(run) if run else steps]))
    return (
        f"{html.paragraphs(Cell(words, title=exact(spectrum.file_bytes, 'bytes')))}{html.figures(row)}"
        f'<div class="rv-advice"><p>{escape(in_words(spectrum))}</p></div>'
        f"{html.paragraphs(*(f'{name}: {meaning}' for name, meaning in TERMS))}"
    )


def choices_html(
    spectrum: Spectrum, offered: Sequence[ResizePlan], selected: ResizePlan | None, measured: Losses
) -> str:
    """Build a table with a row for each truncation and its exact file size; a click selects the row.

    Args:
        spectrum: The adapter before truncation.
        offered: Plans of the offered truncations.
        selected: Plan of the selected truncation, a row too if it is not offered; None if it was refused.
        measured: Measured losses at lower ranks.
    """

    def loss(r: int | None) -> Cell | str:
        value, steps = measured.get(r, (None, 0))
        after = f" after {units.counted(steps, 'more step')}" if steps else ""
        return "" if value is None else rounded(f"held-out loss {{:.3f}}{after}".format, value, html.PER_TOKEN)

    plans = {plan.truncation: plan for plan in offered}
    if plans and selected:
        plans.setdefault(selected.truncation, selected)
    rows = []
    for (r, share), plan in plans.items():
        smaller = 1 - plan.adapter_bytes / plan.adapter_bytes_before
        sub = f"{percent(abs(smaller))} {'smaller' if smaller >= 0 else 'larger'}"
        least = share_text(spectrum.weakest(r)) if r else f"≥ {percent(share, 0)}"
        cells = [
            Cell(f"r = {r}" if r else _ranks(plan), kind="left", sub=loss(r) if r else "each module its own"),
            rounded(units.file_size, plan.adapter_bytes, "bytes", sub=sub),
            Cell(share_text(plan.energy_kept), sub=f"weakest module {least}"),
        ]
        pick = f"r{r}" if r else f"e{100 * share:g}"
        rows.append(Row(cells, pick=pick, chosen=selected is not None and (r, share) == selected.truncation))
    if not rows:
        return ""
    now = Cell(f"r = {spectrum.r} (now)", kind="left", sub=loss(spectrum.r))
    rows.append(Row([now, rounded(units.file_size, spectrum.file_bytes, "bytes"), "100.00 %"]))
    return html.table(["Rank", "File", "Energy kept"], rows, label="Choices of a lower rank")


def _ranks(plan: ResizePlan) -> str:
    low, high = min(plan.rank_by_module.values()), max(plan.rank_by_module.values())
    return f"r = {low}" if low == high else f"r = {low} – {high}"
