"""How the page's events are connected."""

from collections import Counter

from rankviz.api import Api
from rankviz.ui import build_app
from tests.support.runs.toy import ASSETS


def test_no_event_has_two_answers_that_wait_for_themselves(tmp_path):
    config = build_app(Api(home=tmp_path, assets=ASSETS)).get_config_file()
    waiting = Counter(
        tuple(target)
        for dependency in config["dependencies"]
        if dependency["backend_fn"] and dependency["trigger_mode"] == "always_last"
        for target in dependency["targets"]
        if target[1] not in ("load", "then", "success")  # these come once
    )
    named = {each["id"]: each["props"].get("label") or each["props"].get("elem_id") for each in config["components"]}

    assert len(waiting) > 10
    assert [] == [(named[component], event) for (component, event), count in waiting.items() if count > 1]
