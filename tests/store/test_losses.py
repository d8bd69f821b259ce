"""The held-out losses of an export: a row an example, also where a journal counts too few or too many."""

from dataclasses import replace

import pytest

from rankviz.store.transfer import loss_rows
from tests.support.runs.finished_runs import plain_sweep


@pytest.mark.parametrize(("tokens", "kept"), [((5, 6), [5, 6]), ((5,), [None, None]), ((5, 6, 7), [None, None])])
def test_counts_that_are_not_of_each_example_are_left_out(tokens, kept):
    (run,) = plain_sweep({4: 2.0}).runs
    after = replace(run.loss_after, example_losses=(1.0, 2.0), example_tokens=tokens)

    rows = loss_rows(replace(run, loss_after=after))

    assert kept == [row["target_tokens"] for row in rows]
    assert [1.0, 2.0] == [row["loss"] for row in rows]
