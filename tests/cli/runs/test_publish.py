"""`rankviz runs publish`: what it prints, and whose token it uses."""

import json

import pytest
from typer.testing import CliRunner

from rankviz.api import Api
from rankviz.cli.commands import app
from rankviz.errors import InvalidSettingError
from tests.support.engines.hub_stand_in import TOKEN, hub_stand_in
from tests.support.runs.published import trained


@pytest.fixture
def hub(monkeypatch):
    with hub_stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_TOKEN", "hf_ofAnotherAccount0123456789")
        yield hub


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_HOME", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    return trained(Api(home=tmp_path))


def run(*words, **settings):
    return CliRunner().invoke(app(), ["runs", "publish", *words], **settings)


def test_a_sweep_is_published_with_the_token_that_is_typed_and_its_address_is_printed(hub, sweep):
    done = run(sweep.sweep_id, "--to", "hub-dataset", "--name", "alice/ranks", "--ask-token", "--json", input=TOKEN)

    assert 0 == done.exit_code, done.output
    assert {"url": f"{hub.url}/datasets/alice/ranks", "updated": False, "private": True} == json.loads(done.stdout)
    assert {TOKEN} == hub.tokens
    assert TOKEN not in done.output


def test_the_login_of_the_machine_is_used_otherwise(hub, sweep, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    done = run(sweep.runs[0].run_id, "--to", "hub-adapter", "--name", "alice/r4", "--public")

    assert f"Published (public): {hub.url}/alice/r4\n" == done.stdout
    assert not hub.repositories["models/alice/r4"].private


def test_a_wrong_name_is_refused_before_anything_is_asked(hub, sweep):
    done = run(sweep.sweep_id, "--to", "hub-dataset", "--name", "ranks")

    assert isinstance(done.exception, InvalidSettingError)
    assert [] == hub.asked
