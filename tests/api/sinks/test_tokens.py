"""The token that publishes: where it never is, whose it is, and which is refused."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError, PublishError
from rankviz.publish import Token
from rankviz.visitor import acting_as
from tests.api.sinks.publishing import ALICES, PLACE, SERVERS, everything_below, processes, publish
from tests.support.engines.hub_stand_in import TOKEN
from tests.support.runs.published import trained
from tests.support.web.visitors import ANN


def test_the_token_is_in_no_file_no_text_and_no_environment(api, hub, sweep):
    """Nor, while it is sent, in an argument or the environment of any process."""
    hub.faults["/commit/"] = (0, "")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(publish, api, sweep.sweep_id)
        while not (sending.done() or any("/commit/" in path for _, path in hub.asked)):
            time.sleep(0.05)
        held = everything_below(api.workspace.home) + processes()
        hub.faults.clear()
        hub.hangs.set()

    assert b"rankviz.worker" in held
    assert TOKEN.encode() not in held + everything_below(api.workspace.home)
    assert {TOKEN} == hub.tokens
    assert TOKEN not in str(os.environ)
    assert not [text for text in (repr(ALICES), str(ALICES), f"{ALICES}") if TOKEN in text]
    assert not any(TOKEN in path for _, path in hub.asked)


def test_on_a_shared_page_the_servers_own_login_is_never_used(api, hub, sweep, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SERVERS)
    hub.owners[SERVERS] = {"alice"}

    for use_login in (False, True):
        with acting_as(ANN), pytest.raises(InvalidSettingError, match="Log in at Hugging Face, or give a token of"):
            api.runs.publish(sweep.sweep_id, PLACE, None, use_login=use_login)
    publish(api, sweep.sweep_id)

    assert "" == api.runs.hub_login()
    assert {TOKEN} == hub.tokens


@pytest.mark.parametrize("value", [TOKEN, "ofAMirror/0123456789+"])
def test_a_hub_that_says_the_token_of_a_login_back_is_told_without_it(tmp_path, hub, monkeypatch, value):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: value)
    hub.owners = {value: {"alice"}}
    hub.faults["/api/repos/create"] = (400, f"no rights for Bearer {value}")
    api = Api(home=tmp_path / "home", shared=False)

    with pytest.raises(PublishError, match=r'The Hub says: "no rights for Bearer \.\.\."') as refusal:
        api.runs.publish(trained(api).sweep_id, PLACE, use_login=True)

    assert {value} == hub.tokens
    assert value not in str(refusal.value)
    assert value.encode() not in everything_below(tmp_path)


@pytest.mark.parametrize("value", ["", "short", "hf_line\nbreak12345", "ü" * 20, "x" * 501])
def test_what_can_be_no_token_is_refused_without_being_repeated(api, sweep, value):
    with acting_as(ANN), pytest.raises(InvalidSettingError, match="This is not a Hugging Face token") as refusal:
        api.runs.check_publish(sweep.sweep_id, PLACE, Token(value))

    assert not value or value not in str(refusal.value)
