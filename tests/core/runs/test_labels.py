"""What sweeps are called."""

import pytest

from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import sweep_title
from tests.support.runs import questions


@pytest.mark.parametrize(
    ("ranks", "cut_ranks", "ending"),
    [
        ((2, 8), (), "r = 2, 8"),
        ((8,), (4, 2), "r = 8 truncated to 2, 4"),
        ((2, 8), (4, 2), "r = 2, 8 (r = 8 truncated to 2, 4)"),
    ],
)
def test_a_title_names_the_rank_that_is_truncated(ranks, cut_ranks, ending):
    requests = questions.sweep(ranks=ranks, cut_ranks=cut_ranks).runs(sweep_id="s1", created_at=0.0)
    sweep = Sweep(sweep_id="s1", runs=tuple(RunRecord(request=request) for request in requests))

    assert sweep_title(sweep).endswith(f", {ending}")
