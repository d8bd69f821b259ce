"""What all messages have in common."""

from rankviz.children import remade
from rankviz.errors import LONGEST, BadAdapterError, UnknownModelError, UserError


def test_a_message_has_an_end_whatever_it_quotes():
    for error in (BadAdapterError(f"{'layer.' * 10**6} is wrong."), UserError("x" * (LONGEST + 1))):
        assert LONGEST == len(str(error))
        assert str(error).endswith("…")


def test_a_shorter_message_is_unchanged():
    assert "x" * LONGEST == str(UserError("x" * LONGEST))
    assert len(str(UnknownModelError("m" * 10**6))) < 300


def test_an_error_that_a_child_raised_has_a_limit_too():
    assert "" == remade("LimitError", "Too much.", otherwise=UserError).limit
