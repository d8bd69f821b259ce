"""Each rounded quantity in a table, a list of values or a figure of the page has its exact value on hover."""

import pytest
from rankviz.ui.guide.tab import guide

from rankviz.api import Api
from rankviz.ui.explore import sections
from rankviz.ui.explore.compare import compare
from rankviz.ui.guide import tab as accuracy
from rankviz.ui.parts import live
from rankviz.ui.parts.charts import curve
from rankviz.ui.parts.question import DEFAULTS
from rankviz.ui.runs.view import ANY_STATE, detail_html, list_html
from tests.support.runs.finished_runs import finished
from tests.support.web.hover import quantities, unexplained

LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}
PINS = {"pins": ["?model=meta-llama/Llama-3.1-8B", "?model=Qwen/Qwen3-8B&r=64&dora=1"]}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def explore(api):
    return [*vars(sections.decisions(api, **LLAMA)).values(), compare(api, PINS)["html"]]


def guides(api):
    report = api.accuracy.shipped()
    return [
        *vars(guide(api, **LLAMA)).values(),
        accuracy.details(report).tables,
        accuracy.rests_on_html(report.rows[:9], ""),
    ]


def runs(api):
    sweep = finished(api, {4: 2.0, 64: 1.5})
    shown = [live.status_html(sweep), live.results_table(api, sweep), detail_html(api, sweep.runs[0])]
    listed = list_html([sweep], text="", state=ANY_STATE, selected=[])
    return [*shown, listed, curve(api, sweep).details]


@pytest.mark.parametrize("part", [explore, guides, runs])
def test_each_rounded_quantity_has_its_exact_value_on_hover(api, part):
    markup = "".join(part(api))

    assert [] == unexplained(markup)
    assert quantities(markup)
