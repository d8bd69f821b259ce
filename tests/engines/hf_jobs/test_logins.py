"""One account that is logged in on two devices: what works is not begun anew for that."""

import time

import pytest

from rankviz.errors import EngineUnavailableError
from rankviz.jobs.hf_jobs import ANOTHER_ACCOUNT
from rankviz.jobs.hub import NO_TOKEN, Logins
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, wait_for

SOON, LATER = time.time() + 1e6, time.time() + 2e6


def logins_with(token, expires_at):
    logins = Logins("http://127.0.0.1:9", of_machine=False)
    return logins, logins.give("ann", token, "alice", expires_at)


def test_another_token_of_the_account_goes_to_the_same_hub_which_takes_the_one_that_lasts_longer():
    logins, hub = logins_with("hf_1", SOON)

    for token, expires_at in (("hf_2", LATER), ("hf_1", SOON), ("hf_2", LATER), ("hf_3", SOON)):
        assert hub is logins.give("ann", token, "alice", expires_at)

    assert "hf_2" == hub.token
    assert hub is logins.of("ann")


def test_another_account_has_another_hub():
    logins, hub = logins_with("hf_1", SOON)

    assert hub is not logins.give("ann", "hf_2", "ben", LATER)
    assert "ben" == logins.of("ann").name


def test_after_a_login_was_rejected_or_has_ended_the_other_token_takes_its_place():
    logins, hub = logins_with("hf_1", SOON)
    hub.rejected = True
    second = logins.give("ann", "hf_2", "alice", SOON)

    assert second is not hub
    assert second is logins.of("ann")

    logins, hub = logins_with("hf_1", time.time() - 1)
    assert hub is not logins.give("ann", "hf_2", "alice", SOON)


def test_a_token_that_was_rejected_takes_no_place_of_one_that_works():
    logins, hub = logins_with("hf_1", LATER)
    hub.rejected = True
    assert logins.of("ann") is None
    works = logins.give("ann", "hf_2", "alice", SOON)

    assert works is logins.give("ann", "hf_1", "alice", LATER)
    assert "hf_2" == works.token


def test_where_another_account_is_logged_in_that_is_said_and_nothing_is_asked_of_it(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)

    logins.forget("ann")
    logins.give("ann", "hf_ben")

    wait_for(lambda: store.get(run_id).waits == ANOTHER_ACCOUNT)
    with pytest.raises(EngineUnavailableError, match="another account"):
        supervisor.cancel(run_id, timeout_seconds=0.2)
    assert only_job(hub).ended is None


def test_on_one_s_own_page_whoever_is_logged_in_on_the_machine_now_pays(supervise, store, hub, monkeypatch):
    token = ["hf_alice"]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token[0])
    supervisor = supervise(HANG_IN_EACH, logins=Logins(hub.url, of_machine=True))
    (first,) = sweep(store, 2, owner="")
    wait_for(lambda: store.get(first).steps)
    supervisor.cancel(first)

    token[0] = "hf_ben"
    (second,) = sweep(store, 4, owner="")
    wait_for(lambda: store.get(second).steps)
    token[0] = None
    (third,) = sweep(store, 8, owner="")
    wait_for(lambda: store.get(third).waits == store.get(second).waits == NO_TOKEN)

    assert ["alice", "ben"] == [job.namespace for job in hub.jobs.values()]
    token[0] = "hf_ben"
    supervisor.cancel(third)
    supervisor.cancel(second)
