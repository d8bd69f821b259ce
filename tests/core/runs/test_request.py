"""What a sweep expands to, what is refused, and one more run of a sweep."""

from dataclasses import replace

import pytest

from rankviz.core.runs.request import added_run, quick_look
from rankviz.errors import InvalidSettingError
from tests.support.runs.questions import sweep


def grid(**settings) -> list[tuple]:
    return [(run.seed, run.learning_rate, run.r) for run in sweep(**settings).runs(sweep_id="s", created_at=0.0)]


def test_a_sweep_draws_a_whole_curve_before_it_starts_the_next():
    assert [
        (0, 0.01, 2),
        (0, 0.01, 8),
        (0, 0.001, 2),
        (0, 0.001, 8),
        (7, 0.01, 2),
        (7, 0.01, 8),
        (7, 0.001, 2),
    ] == grid(ranks=(8, 2), learning_rates=(0.01, 0.001), seeds=(0, 7))[:7]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranks": ()}, "1 to 256 ranks"),
        ({"ranks": (0,)}, r"from 1 to 1,024 \(got 0\)"),
        ({"ranks": (True,)}, "whole number"),
        ({"seeds": (-1,)}, "Seed must be a whole number from 0 to 4,294,967,295"),
        ({"exact_match_examples": -1}, r"Exact match examples must be a whole number from 0 to 100,000 \(got -1\)"),
        ({"target_modules": ()}, "target module"),
        ({"lora_alpha": "3r"}, "Alpha must be r, 2r or a number"),
        ({"precision": "fp8"}, "Precision must be one of auto, bf16"),
        ({"base": " "}, "Choose a base"),
        ({"ranks": tuple(range(1, 100)), "seeds": (0, 1, 2)}, r"at most 256 runs \(got 297\)"),
    ],
)
def test_a_sweep_that_cannot_be_trained_says_why(settings, message):
    with pytest.raises(InvalidSettingError, match=message):
        sweep(**settings).runs(sweep_id="s", created_at=0.0)


def test_a_quick_look_trains_two_ranks_repeats_the_lower_and_truncates_the_higher_one():
    look = quick_look(sweep(ranks=(16,), seeds=(5, 6), lora_alpha="16", max_steps=30))

    runs = look.runs(sweep_id="s", created_at=0.0)

    assert [(4, 5, ()), (64, 5, (32, 16, 8, 4)), (4, 6, ())] == [(run.r, run.seed, run.cut_ranks) for run in runs]
    assert {(16.0, 30)} == {(run.lora.lora_alpha, run.max_steps) for run in runs}
    assert 3 == look.run_count
    assert 2 == len(quick_look(sweep(), repeat=False).runs(sweep_id="s", created_at=0.0))


@pytest.mark.parametrize(
    ("settings", "ranks", "message"),
    [
        ({}, (4,), r"trains two ranks, such as 4 and 64 \(got 1\)"),
        ({"learning_rates": (1e-3, 3e-4)}, (4, 64), r"takes one learning rate \(got 2\)"),
        ({"lora_alpha": " 2R"}, (4, 64), r"needs a fixed alpha, such as 32 \(got 2R\)"),
    ],
)
def test_a_quick_look_that_two_runs_cannot_answer_is_refused(settings, ranks, message):
    with pytest.raises(InvalidSettingError, match=message):
        quick_look(sweep(**settings), ranks)


def requests(**settings):
    return sweep(**settings).runs(sweep_id="s", created_at=1.0)


def test_an_added_run_differs_from_its_pattern_in_rank_alone():
    runs = quick_look(sweep(data="letters.jsonl", seeds=(3,))).runs(sweep_id="s", created_at=1.0)

    added = added_run(runs, runs[1], 16, created_at=9.0)

    pattern = replace(runs[1], run_id="s-004-r16", created_at=9.0, lora=replace(runs[1].lora, r=16), cut_ranks=())
    assert pattern == added


def test_alpha_follows_the_rule_of_the_sweep():
    fixed, by_rank = requests(ranks=(4, 64), lora_alpha="32"), requests(ranks=(4, 64), lora_alpha="2r")

    assert 32 == added_run(fixed, fixed[0], 16, created_at=9.0).lora.lora_alpha
    assert 32 == added_run(by_rank, by_rank[0], 16, created_at=9.0).lora.lora_alpha
    assert 48 == added_run(by_rank, by_rank[0], 24, created_at=9.0).lora.lora_alpha


def test_a_rank_that_has_such_a_run_is_repeated_with_the_next_seed():
    runs = quick_look(sweep(seeds=(3,))).runs(sweep_id="s", created_at=1.0)

    assert [4, 5, 3] == [added_run(runs, runs[1], r, created_at=9.0).seed for r in (64, 4, 16)]
