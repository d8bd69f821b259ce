"""The stylesheets: one set of tokens, which the figures share, and little else."""

import re
from itertools import chain

import pytest

from rankviz.figures import style
from rankviz.paths import ASSETS
from rankviz.ui.theme import FIRST_STYLES, STYLESHEETS
from rankviz.ui.theme import theme as ui_theme

EVERY = [*dict.fromkeys((*STYLESHEETS, *FIRST_STYLES))]
TOKENS = next(path for path in EVERY if path.stem == "tokens")
SHARED = {
    "estimated": style.ESTIMATED,
    "measured": style.MEASURED,
    "published": style.PUBLISHED,
    "fast-curve": style.FAST_CURVE,
    "chosen": style.CHOSEN,
    "neutral": style.NEUTRAL,
}
SIZES = {"small": style.SMALL, "base": style.BASE, "medium": style.MEDIUM, "large": style.LARGE}
TEXT = ("text", "quiet", "error")


def code(path):
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)


def tokens(selector):
    (block,) = re.findall(re.escape(selector) + r" \{(.*?)\}", code(TOKENS), re.S)
    return dict(re.findall(r"--rv-([\w-]+): ([^;]+);", block))


LIGHT = tokens(":root")
DARK = LIGHT | tokens(".dark")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_figures_and_page_have_the_same_colours_and_sizes():
    assert SHARED == {name: LIGHT[name] for name in SHARED}
    assert {name: f"{size}px" for name, size in SIZES.items()} == {name: LIGHT[name] for name in SIZES}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_can_be_seen_on_the_page(theme):
    page, raised = theme["page"], theme["raised"]

    marks = {name: contrast(theme[name], page) for name in SHARED}
    texts = {name: min(contrast(theme[name], page), contrast(theme[name], raised)) for name in TEXT}

    assert {} == {name: ratio for name, ratio in marks.items() if ratio < 3}
    assert {} == {name: ratio for name, ratio in texts.items() if ratio < 4.5}
    assert contrast(theme["on-chosen"], theme["chosen"]) >= 4.5

    border = getattr(ui_theme(), f"checkbox_border_color{'_dark' if theme is DARK else ''}")
    assert contrast(getattr(ui_theme(), border.removeprefix("*")), raised) >= 3, "an empty box or circle"


def test_every_class_of_the_stylesheets_is_on_the_page():
    """Those that end a name are put together from a prefix and a word: rv-fit-tight, rv-wrap."""
    sources = [
        *(ASSETS.parent / "rankviz").rglob("*.py"),
        *(ASSETS / "js").glob("*.js"),
        *(ASSETS / "html").glob("*.html"),
    ]
    written = "".join(path.read_text() for path in sources)
    classes = set(chain.from_iterable(re.findall(r"\.(rv-[\w-]+)", code(path)) for path in EVERY))
    composed = {"rv-narrow", "rv-wrap", "rv-fit-tight", "rv-fit-uncertain", "rv-fit-does_not_fit"}

    assert set() == {name for name in classes - composed if not re.search(rf"\b{name}\b(?!-)", written)}
