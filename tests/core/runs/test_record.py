"""The record of a run and of a sweep, from events alone, and what a sweep expands to."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import (
    MAX_ANSWER_CHARACTERS,
    AdapterCut,
    Answered,
    AttemptPlaced,
    Evaluated,
    GreedyAnswer,
    RunCompleted,
    RunFailed,
    RunRequeued,
    RunStarted,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.fast_curve import fast_curve, pick, read
from rankviz.core.runs.record import AFTER_OTHERS, RunRecord, Sweep, why_it_waits
from rankviz.core.runs.request import MAX_SHOWN_ANSWERS, added_run, quick_look
from rankviz.errors import InvalidSettingError
from tests.support.runs import questions
from tests.support.runs.questions import sweep

ASKED = RunRecord(request=questions.run(run_id="r"))


def step(number, *, attempt=0, offset=0):
    return StepLogged(
        time=1.0,
        step=number,
        loss=1.0,
        learning_rate=1e-3,
        tokens=10 * number,
        seconds=float(number),
        memory_bytes=1,
        attempt=attempt,
        offset=offset,
    )


def placed(attempt, **fields):
    return AttemptPlaced(time=1.0, attempt=attempt, engine="ray", **fields)


def begun(attempt):
    return RunStarted(time=1.0, environment={}, attempt=attempt)


LOST = RunRequeued(time=2.0, attempt=1, lost="The node has gone.")
DONE = RunCompleted(time=9.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="GPU allocated", attempt=2)


def test_a_lost_attempt_is_counted_and_what_it_wrote_counts_no_more():
    record = ASKED.after_all([step(1, attempt=1), step(2, attempt=1), LOST])

    assert ("queued", 2, 1, ()) == (record.state, record.attempt, record.lost_attempts, record.steps)


@pytest.mark.parametrize("late", [step(3, attempt=1), RunFailed(time=8.0, error="late", attempt=1)])
def test_a_late_event_changes_nothing(late):
    before = ASKED.after_all([step(1, attempt=1), LOST, step(1, attempt=2), step(2, attempt=2)])

    assert before == before.after(late)
    assert before == before.after_all([late])
    assert before.after(DONE) == before.after_all([late, DONE, late])


def test_a_place_of_a_later_attempt_begins_it():
    record = ASKED.after_all([placed(1), step(1, attempt=1), placed(3, where="node-4"), step(1, attempt=3)])

    assert (3, [1], "node-4") == (record.attempt, [each.step for each in record.steps], record.where)


def test_an_ended_run_is_begun_again_only_where_it_is_asked_for():
    ended = ASKED.after_all([step(1), RunFailed(time=2.0, error="no luck")])
    again = ended.after(RunRequeued(time=3.0))

    assert ended == ended.after(placed(2))
    assert ("queued", (), "") == (again.state, again.steps, again.error)


def test_what_is_brought_twice_counts_once():
    brought = [step(1, attempt=1, offset=100), step(2, attempt=1, offset=200)]
    record = ASKED.after_all([*brought, *brought])

    assert ([1, 2], 200, 0) == ([each.step for each in record.steps], record.copied_bytes, record.unreadable_lines)
    assert record == ASKED.after_all(brought).after_all(brought)


def test_an_attempt_that_never_began_is_not_counted():
    failed, again = RunFailed(time=2.0, error="Not started."), RunRequeued(time=3.0)
    never = ASKED.after_all([placed(1), failed, again])
    once = ASKED.after_all([placed(1), begun(1), failed, again, placed(2), RunFailed(time=5.0, error="Not started.")])

    assert (2, 0, 1) == (never.attempt, never.begun_attempts, never.shown_attempt)
    assert (2, 1, 2) == (once.attempt, once.begun_attempts, once.shown_attempt)
    assert 2 == once.after_all([again, placed(3), begun(3)]).begun_attempts


def test_answers_from_elsewhere_are_bounded_and_can_be_shown():
    one = GreedyAnswer(place=0, prompt="half \ud83d of a pair", reference="ref", text="x" * 5000, ended=True)
    many = tuple(replace(one, place=place) for place in range(MAX_SHOWN_ANSWERS + 5))

    shown = ASKED.after(Answered(time=1.0, when="after", answers=many, seconds=2.0)).answers

    assert (MAX_SHOWN_ANSWERS, MAX_ANSWER_CHARACTERS) == (len(shown), len(shown[0].after.text))
    assert "half ? of a pair" == shown[0].prompt


def why(*events, others=(), has_job=False):
    run, other = ASKED.after_all(events), RunRecord(request=questions.run(run_id="other")).after_all(others)
    return " ".join(filter(None, why_it_waits(run, Sweep(sweep_id="s", runs=(run, other)), has_job=has_job)))


def test_a_lost_attempt_is_told_with_its_reason_until_the_next_one_begins():
    loading = StageReached(time=5.0, stage="loading the base")
    told = "The last attempt was lost: The node has gone."

    assert told == why(loading, LOST)
    assert f"{told} {AFTER_OTHERS}" == why(loading, LOST, others=[loading])
    assert f"{told} Its worker is starting on node-4." == why(loading, LOST, placed(2, where="node-4"), has_job=True)
    assert "" == why(loading, LOST, placed(2), replace(loading, attempt=2))


def run(r, loss, *, cuts=None, run_id="top", **settings):
    request = questions.run(
        run_id=run_id, sweep_id="s", base="b", data="d", r=r, lora_alpha=32, cut_ranks=tuple(cuts or ()), **settings
    )
    evaluated = Evaluated(time=1.0, when="after", loss=loss, tokens=10, examples=2, seconds=1.0)
    return RunRecord(
        request=request,
        trainable_parameters=100 * r,
        adapter_bytes=400 * r,
        loss_before=replace(evaluated, when="before", loss=7.0),
        loss_after=evaluated,
        cuts=tuple(
            AdapterCut(
                **{"time": 2.0, "r": k, "loss": value, "tokens": 10, "examples": 2, "seconds": 1.0},
                example_losses=(value, value),
                recovery_steps=2 if k < 8 else 0,
                path=f"cuts/r{k}" if k < 8 else "",
            )
            for k, value in (cuts or {}).items()
        ),
    )


TOP = run(64, 1.600, cuts={32: 1.601, 8: 1.615, 2: 1.640})


def test_the_curve_runs_from_the_lowest_cut_to_the_rank_that_was_trained():
    curve = fast_curve(TOP)

    assert [2, 8, 32, 64] == [point.r for point in curve.points]
    assert (1.640, 200, 800, 2, "cuts/r2", None, None) == curve.points[0][1:]
    assert (1.600, 6400, 25600, 0, "", None, None) == curve.trained[1:]
    assert 7.0 == curve.base_loss


@pytest.mark.parametrize(("tolerance", "r"), [(0.02, 8), (0.05, 2), (0.0005, 64)])
def test_the_pick_is_the_lowest_rank_within_the_tolerance_of_the_best(tolerance, r):
    assert r == pick(fast_curve(TOP), tolerance).r


def sentences(*others, run_sd=0.02):
    return read(fast_curve(TOP), [TOP, *others], run_sd=run_sd).sentences


def test_a_run_parts_from_the_curve_beyond_two_standard_errors_of_a_difference():
    # 2 · √2 · 0.02 = 0.0566 above 1.640
    near, far = (" ".join(sentences(run(2, loss, run_id="a"))) for loss in (1.696, 1.697))

    assert "alarm" not in near
    assert "At r = 2 a run reached a loss of 1.6970" in far
    assert "Judge low ranks by runs." in " ".join(sentences(run(2, 1.5, run_id="a")))


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
