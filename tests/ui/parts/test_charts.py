import json

from rankviz.ui.parts.charts import json_text


def test_a_number_that_is_none_is_null_in_what_a_browser_reads():
    text = json_text({"y": [1.5, float("nan"), float("inf")], "of": ({"z": -float("inf")},)})

    assert {"y": [1.5, None, None], "of": [{"z": None}]} == json.loads(text, parse_constant=lambda name: 1 / 0)
