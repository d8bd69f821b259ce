"""The verdict on a page: its sentences, and its figure with data."""

import json

from rankviz.ui.parts.charts import verdict_chart
from rankviz.verdict import judge
from tests.support.runs.verdict_tables import table


def verdict(losses):
    return judge(table(losses))


def test_the_data_of_the_figure_has_a_row_a_rank_and_an_empty_cell_for_what_is_not_known():
    drawn = json.loads(verdict_chart(verdict({4: [[2.2]], 16: [[1.5]]})))

    rows = drawn["csv"].splitlines()
    assert rows[0].startswith("r,loss,seeds,learning_rate,")
    assert rows[1].startswith("4,2.2,1,,1,")
    assert ",,,can't tell,16,0.02,1" in rows[1]
    assert "95 % confidence" in drawn["source"]
