"""The parts of Explore that the page's script fills: figures, trade-off chart, recommendation, table of ranks.

They hold no values of Gradio's, so a change of the rank costs nothing but a few texts.
"""

from html import escape

import gradio as gr

from rankviz.figures import X_LABELS
from rankviz.ui.explore.records import FIGURES, FORECAST
from rankviz.ui.parts.charts import MENU

HERO_TITLE = "Cost and quality by rank"
HERO_HEIGHT = 400

FIGURE = (
    '<div class="rv-figure"><h2>{name}</h2><div class="rv-value">–</div><div class="rv-sub"></div>'
    '<dl class="rv-steps"></dl></div>'
)
RANK_HEADERS = ("r", "Trainable parameters", "Share", "Adapter file", "GPU memory", "Time", "Cost", "Fit", FORECAST)
RANKS = """
<div class="rv-table-box" tabindex="0" role="region" aria-label="All ranks"><table class="rv-table">
<thead><tr>{headers}</tr></thead><tbody></tbody></table></div>
"""
TOOLS = """
<div class="rv-bar-buttons">
  <button type="button" class="rv-button" data-pin><span>Pin to compare</span><span data-pins></span></button>
  <button type="button" class="rv-button" data-present>Present</button>
  <button type="button" class="rv-button" data-open="export">Colab or script</button>
</div>
"""
COMPARE = """
<div><div class="rv-pins"></div>
<figure class="rv-chart" hidden><figcaption><h2>Ranks of the pinned configurations</h2></figcaption>
<div class="rv-plot" role="group" aria-label="Ranks of the pinned configurations" style="height:320px"></div></figure>
</div>
"""
HERO = """
<figure class="rv-chart rv-hero" data-waiting>
  <figcaption><h2>{title}</h2>
    <b data-presenting data-model hidden></b>
    <span class="rv-choice" role="group" aria-label="Cost axis">{axes}</span>
    <button type="button" class="rv-button" data-presenting data-present hidden>Close</button>
    <label class="rv-select"><span>Quality</span><select aria-label="Quality axis"></select></label>
    {menu}
  </figcaption>
  <p class="rv-hero-heading" hidden></p>
  <div class="rv-hero-plot">
    <div class="rv-plot" role="group" aria-label="Trade-off chart" style="height:{height}px"></div>
    <div class="rv-grip" role="slider" tabindex="0" aria-label="Rank on the trade-off chart" aria-valuemin="1"
      aria-valuemax="256" hidden><span class="rv-grip-label"></span><span class="rv-grip-dot"></span></div></div>
  <ul class="rv-caption rv-hero-facts" aria-label="What published studies agree on" hidden></ul>
  <details class="rv-details"><summary>What this chart rests on</summary><div class="rv-caption rv-hero-words"></div>
  </details>
</figure>
"""


def figures() -> gr.HTML:
    """Five numbers in a row, at the chosen rank, with half and twice the rank under each."""
    cards = "".join(FIGURE.format(name=escape(name)) for name in FIGURES)
    return _filled(
        f'<div class="rv-figures" data-waiting>{cards}</div>', "RankVizExplore.figures(element)", elem_id="figures"
    )


def hero() -> gr.HTML:
    """The trade-off chart. A click on a run is `select`."""
    axes = "".join(
        f'<button type="button" data-x="{key}" aria-pressed="false">{escape(label)}</button>'
        for key, label in X_LABELS.items()
    )
    return _filled(
        HERO.format(title=HERO_TITLE, menu=MENU.format(title=HERO_TITLE), axes=axes, height=HERO_HEIGHT),
        "RankVizHero.chart(element, trigger); // 'select'",
        elem_id="tradeoff",
    )


def ranks() -> gr.HTML:
    """The table of ranks."""
    headers = "".join(f'<th scope="col" class="{"" if i else "rv-left"}">{h}</th>' for i, h in enumerate(RANK_HEADERS))
    return _filled(RANKS.format(headers=headers), "RankVizExplore.ranks(element)", elem_id="ranks")


def tools() -> gr.HTML:
    """What can be done with this configuration as it stands."""
    return _filled(TOOLS, "", elem_id="tools")


def compare() -> gr.HTML:
    """The pinned configurations."""
    return _filled(COMPARE, "RankVizPresent.compare(element, trigger)", elem_id="compare")


def redraw(section: str) -> gr.HTML:
    """Invisible: `submit` when the section of this label is open and the question has changed."""
    return gr.HTML(
        html_template="<span hidden></span>",
        js_on_load=f"RankVizExplore.section({section!r}, () => trigger('submit'))",
        apply_default_css=False,
        visible="hidden",
    )


def _filled(template: str, script: str, elem_id: str | None = None) -> gr.HTML:
    return gr.HTML(html_template=template, js_on_load=script, apply_default_css=False, elem_id=elem_id)
