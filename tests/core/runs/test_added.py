"""One more run of a sweep that exists."""

from dataclasses import replace

import pytest

from rankviz.core.runs.request import added_run, quick_look
from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import sweep


def requests(**settings):
    return sweep(**settings).runs(sweep_id="s", created_at=1.0)


def test_an_added_run_differs_from_its_pattern_in_rank_alone():
    runs = quick_look(sweep(data="letters.jsonl", seeds=(3,))).runs(sweep_id="s", created_at=1.0)

    added = added_run(runs, runs[1], 16, created_at=9.0)

    pattern = replace(runs[1], run_id="s-004-r16", created_at=9.0, lora=replace(runs[1].lora, r=16), cut_ranks=())
    assert pattern == added


def test_alpha_follows_the_rule_of_the_sweep():
    fixed, by_rank = requests(ranks=(4, 64), alpha="32"), requests(ranks=(4, 64), alpha="2r")

    assert 32 == added_run(fixed, fixed[0], 16, created_at=9.0).lora.lora_alpha
    assert 32 == added_run(by_rank, by_rank[0], 16, created_at=9.0).lora.lora_alpha
    assert 48 == added_run(by_rank, by_rank[0], 24, created_at=9.0).lora.lora_alpha


def test_alphas_without_a_rule_are_refused():
    low, high = requests(ranks=(4, 64))
    odd = replace(high, lora=replace(high.lora, lora_alpha=48.0))

    with pytest.raises(InvalidSettingError, match="no common rule for alpha"):
        added_run((low, odd), high, 16, created_at=9.0)


def test_the_name_of_an_added_run_is_never_taken():
    runs = requests(ranks=(4, 64))
    runs = (*runs, replace(runs[0], run_id="s-004-r16"))  # as an import may leave them

    assert "s-005-r16" == added_run(runs, runs[1], 16, created_at=9.0).run_id


def test_a_rank_that_has_such_a_run_is_repeated_with_the_next_seed():
    runs = quick_look(sweep(seeds=(3,))).runs(sweep_id="s", created_at=1.0)

    assert [4, 5, 3] == [added_run(runs, runs[1], r, created_at=9.0).seed for r in (64, 4, 16)]


def test_a_rank_out_of_bounds_is_refused():
    runs = requests(ranks=(4, 64))

    with pytest.raises(InvalidSettingError, match=r"Rank must be a whole number from 1 to 1,024 \(got 0\)"):
        added_run(runs, runs[1], 0, created_at=9.0)


def test_the_same_rank_with_another_seed_or_rate_is_another_run():
    runs = requests(ranks=(4, 64))
    other = replace(runs[1], seed=1)

    assert (64, 1) == ((added := added_run(runs, other, 64, created_at=9.0)).r, added.seed)


def test_a_full_sweep_takes_no_more():
    runs = requests(ranks=tuple(range(1, 257)))

    with pytest.raises(InvalidSettingError, match="at most 256 runs"):
        added_run(runs, runs[0], 300, created_at=9.0)
