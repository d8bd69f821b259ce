"""Which of many cases `make test` tries; the others are marked slow, and the command of their kind tries all."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def first_quick(cases: Iterable[Any], quick: int = 1) -> list[Any]:
    """The parameters of a test, all but the first so many marked slow."""
    return [case if place < quick else _slow(case) for place, case in enumerate(cases)]


def chosen_quick(cases: Collection[Any], quick: Collection[Any]) -> list[Any]:
    """The parameters of a test, all but these marked slow."""
    assert set(quick) <= set(cases), set(quick) - set(cases)
    return [case if case in quick else _slow(case) for case in cases]


def _slow(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
