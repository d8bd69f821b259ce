"""What all messages have in common."""

import pickle

import pytest

from rankviz.children import remade
from rankviz.core.bounds import printable, shown
from rankviz.errors import (
    MAX_MESSAGE,
    BadAdapterError,
    EngineUnavailableError,
    PublishError,
    RunUnreadError,
    UserError,
    quoted,
    shortened,
)

TOKEN = "hf_alicesOwnToken0123456789"
SAID = f"The Hub says: bad token {TOKEN}"
CUTS = {
    "quoted": quoted,
    "printable": lambda text: printable(text, 100),
    "shortened": lambda text: shortened(text, 100),
    "shown": shown,
    "message": lambda text: str(UserError(text + "x" * (MAX_MESSAGE - 100))),
}


def test_a_message_has_an_end_whatever_it_quotes():
    for error in (BadAdapterError(f"{'layer.' * 10**6} is wrong."), UserError("x" * (MAX_MESSAGE + 1))):
        assert MAX_MESSAGE == len(str(error))
        assert str(error).endswith("…")


@pytest.mark.parametrize("token", [TOKEN, "hf_oauth_eyJhbGciOi.eyJzdWIi-OiIx.c2lnbmF0-dXJl_", "ofAMirror/0123456789+"])
def test_no_message_has_a_token(monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", f"{token}\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f0" * 32)

    assert "Ray: no rights for ..., (...)" == str(EngineUnavailableError(f"Ray: no rights for {token}, ({'f0' * 32})"))


@pytest.mark.parametrize(
    "error",
    [
        PublishError(SAID),
        remade("PublishError", SAID, otherwise=UserError),
        remade("RunUnreadError", SAID, otherwise=UserError),
        RunUnreadError("r4", SAID),
        EngineUnavailableError(SAID, 3),
    ],
)
def test_nothing_of_an_error_has_a_token(error):
    assert "The Hub says" in str(error)
    assert "alicesOwn" not in f"{error} {error!r} {error.args} {pickle.dumps(error)}"


@pytest.mark.parametrize("cut", CUTS)
def test_what_is_cut_off_ends_with_no_part_of_a_token(cut):
    texts = [CUTS[cut](f"{'x' * before} {TOKEN} {'y' * 200}") for before in range(20, 220)]

    assert any("..." in text for text in texts)
    assert [] == [text for text in texts if "hf_" in text]
