"""What all messages have in common."""

import pytest

from rankviz.children import remade
from rankviz.errors import LONGEST, BadAdapterError, EngineUnavailableError, UnknownModelError, UserError

NAMES = ("alice/hf_SmolLM2InstructRanks16x", "my-hf_SmolLM2InstructRanks16x", "shelf_SmolLM2InstructRanks16x")
TOKEN = "hf_alicesOwnToken0123456789"


def test_a_message_has_an_end_whatever_it_quotes():
    for error in (BadAdapterError(f"{'layer.' * 10**6} is wrong."), UserError("x" * (LONGEST + 1))):
        assert LONGEST == len(str(error))
        assert str(error).endswith("…")


def test_a_shorter_message_is_unchanged():
    assert "x" * LONGEST == str(UserError("x" * LONGEST))
    assert len(str(UnknownModelError("m" * 10**6))) < 300


def test_an_error_that_a_child_raised_has_a_limit_too():
    assert "" == remade("LimitError", "Too much.", otherwise=UserError).limit


@pytest.mark.parametrize("token", [TOKEN, "hf_oauth_eyJhbGciOi.eyJzdWIi-OiIx.c2lnbmF0-dXJl_", "ofAMirror/0123456789+"])
def test_no_message_has_a_token(monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", f"{token}\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f0" * 32)

    assert "Ray: no rights for ..., (...)" == str(EngineUnavailableError(f"Ray: no rights for {token}, ({'f0' * 32})"))


def test_what_only_begins_as_a_token_stays(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "none")

    for words in ("hf_hub_download of hf_transfer", "hf_jobs: none of 3", "hf_mistral7b/adapter_model", *NAMES):
        assert words == str(UserError(words))
