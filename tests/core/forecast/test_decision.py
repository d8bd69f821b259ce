"""What to train next and what to ship, from forecasts and runs set down by hand."""

from dataclasses import replace

import pytest

from rankviz.core.forecast.decision import decide, decision_json
from rankviz.core.forecast.quick_look import MeasuredRank
from tests.support.runs.finished_runs import plain_sweep
from tests.support.web.quick_looks import forecast, quick_look_runs

FALLING = {4: 1.90, 8: 1.85, 16: 1.815, 32: 1.805, 64: 1.80}


def test_the_rank_to_train_is_the_lowest_within_the_tolerance_of_the_lowest_estimate():
    runs = quick_look_runs(1.9, 1.8)

    assert [16, 8, 64] == [decide(runs, forecast(FALLING), tolerance).train_rank for tolerance in (0.02, 0.05, 0.001)]
    # A quarter of a percent of 1.8 is 0.0045.
    assert [64, 32] == [decide(runs, forecast({**FALLING, 32: loss})).train_rank for loss in (1.805, 1.804)]


def test_the_sentences_on_training_name_the_reference_the_risk_and_the_settings():
    first, why, risk, settings = decide(quick_look_runs(1.9, 1.8), forecast(FALLING), 0.02).train_sentences

    assert "To train next: r = 16 (estimated loss 1.815 nats, 80 % band 1.785 to 1.845)." == first
    assert "r = 16 is the lowest rank within 0.02 nats of the lowest estimate, 1.800 nats at r = 64." == why
    assert "A run there may land up to 0.045 nats above the lowest loss, where its 80 % band ends." == risk
    assert settings.startswith(
        "Keep the data, the target modules and alpha = 32 (with alpha = r, another learning rate may be best). The "
        "learning rate (0.001) was not"
    )


def test_a_band_inside_the_tolerance_is_no_risk_to_name():
    sentences = decide(quick_look_runs(1.9, 1.8), forecast(FALLING, half_band=0.002), 0.02).train_sentences

    assert not any("may land" in sentence for sentence in sentences)


def test_where_alpha_follows_the_rank_the_next_run_keeps_the_rule():
    low, high = quick_look_runs(1.9, 1.8)
    lora = replace(low.request.lora, lora_alpha=4)
    runs = (replace(low, request=replace(low.request, lora=lora)), high)

    decision = decide(runs, forecast(FALLING))

    assert decision.alpha is None
    assert decision.train_sentences[-1].startswith("Keep the data, the target modules and the rule for alpha.")


@pytest.mark.parametrize(
    ("low", "cuts", "saved", "shipped"),
    [
        (1.81, {8: 1.801}, (), (4, "trained")),  # 4 MB, 0.01 above the best
        (1.90, {32: 1.801, 8: 1.815, 2: 1.83}, (), (8, "truncated")),
        (1.90, {8: 1.801, 2: 1.802}, (), (8, "truncated")),  # r = 2 was trained on and not kept
        (1.90, {8: 1.801, 2: 1.802}, (2,), (2, "truncated")),
        (1.90, {8: 1.9}, (), (64, "trained")),
        (1.81, {4: 1.805}, (4,), (4, "truncated")),  # of two adapters of one rank the better
    ],
)
def test_the_adapter_to_ship_is_one_that_can_be_had_of_the_lowest_rank_within_the_tolerance(low, cuts, saved, shipped):
    decision = decide(quick_look_runs(low, 1.8, cuts, saved=saved), forecast(FALLING))

    assert shipped == (decision.ship.r, decision.ship.made)


def test_a_truncated_adapter_is_shipped_with_its_measured_loss_and_no_promise_of_a_run():
    first, why, promise = decide(quick_look_runs(1.9, 1.8, {8: 1.815}), forecast(FALLING)).ship_sentences

    assert (
        "To ship: the adapter of the run at r = 64, truncated to r = 8 (about 8.0 MB), held-out loss 1.8150." == first
    )
    assert why.endswith("within 0.02 nats of the best one: the adapter of the run at r = 64 (64.0 MB), at 1.8000.")
    assert "This loss was measured. A new run at r = 8 may end higher or lower." == promise


def test_before_an_adapter_is_saved_nothing_is_said_about_shipping():
    runs = tuple(replace(run, adapter_bytes=None) for run in quick_look_runs(1.9, 1.8))

    decision = decide(runs, forecast(FALLING))

    assert decision.ship is None
    assert () == decision.ship_sentences
    assert decision_json(decision)["ship"] is None


SEEDS = {(4, 0): 1.9, (4, 1): 1.92, (64, 0): 1.7, (64, 1): 1.9}


def seed_runs(losses=SEEDS):
    ends = {seed: plain_sweep({r: loss for (r, each), loss in losses.items() if each == seed}) for seed in (0, 1)}
    return tuple(
        replace(run, request=replace(run.request, seed=seed, run_id=f"{run.run_id}-{seed}"))
        for seed, sweep in ends.items()
        for run in sweep.runs
    )


def test_an_adapter_is_shipped_by_the_mean_over_its_seeds_and_said_to_be_the_best_of_them():
    decision = decide(seed_runs(), forecast(FALLING), tolerance=0.12)

    # r = 4 at 1.91 on average is 0.11 above r = 64 at 1.8 on average, and 0.2 above its luckier seed.
    assert (4, 1.9, 2) == (decision.ship.r, decision.ship.loss, decision.ship.seeds)
    first, seeds, why = decision.ship_sentences
    assert first.endswith("held-out loss 1.9000.")
    assert "It is the best of 2 seeds, and their mean is 1.9100." == seeds
    assert "(means over seeds)" in why and why.endswith("at 1.8000.")


def test_with_a_verdict_the_rank_to_train_is_the_one_of_the_verdict():
    ranks = forecast(FALLING).ranks
    bent = replace(
        forecast(FALLING),
        ranks=tuple(
            replace(rank, median=rank.median + 0.01, measured=rank.median + 0.01) if rank.r in (8, 64) else rank
            for rank in ranks
        ),
        runs=(MeasuredRank(8, 1.86, 0.1, 3), MeasuredRank(64, 1.81, 0.1, 3)),
    )

    decision = decide(quick_look_runs(1.9, 1.8), bent, settled=8)

    assert 8 == decision.train_rank == decision_json(decision)["train"]["verdict"]
    first, why, *_ = decision.train_sentences
    assert first.startswith("To train next: r = 8 (mean loss of 3 runs 1.860 nats, 80 % band ")
    assert "r = 8 is the smallest rank that the verdict of this sweep cannot distinguish from the best, r = 64." in why
    assert why.endswith("Its mean loss is 0.050 nats higher.")


def test_below_rank_1_there_is_no_rank_to_measure():
    decision = decide(plain_sweep({1: 1.7, 64: 1.8}).runs, forecast({1: 1.7, 64: 1.8}))

    assert "r = 1 has the lowest loss, and no lower rank exists." in decision.train_sentences


def test_of_lower_ranks_that_were_not_measured_nothing_is_said():
    decision = decide(quick_look_runs(1.7, 1.8), forecast({4: 1.7, 64: 1.8}))

    words = " ".join([*decision.train_sentences, *decision.ship_sentences])
    assert "Lower ranks were not measured." in words
    assert "No lower rank" not in words and "No available adapter of a lower rank" not in words


def test_the_learning_rates_that_were_tried_are_those_of_the_rank():
    low, high = quick_look_runs(1.9, 1.8)
    other = replace(low, request=replace(low.request, learning_rate=0.02))

    decision = decide((low, other, high), forecast(FALLING))

    assert 1 == decision.tried_rates
    assert "was not tuned" in decision.train_sentences[-1]


def test_the_json_holds_both_answers_apart():
    result = decision_json(decide(quick_look_runs(1.9, 1.8, {8: 1.815}), forecast(FALLING, repeat_at=4), 0.02))

    keys = ("r", "third_run", "repeat_at", "enough", "lora_alpha")
    assert (16, None, 4, 16, 32) == tuple(result["train"][name] for name in keys)
    assert (8, "truncated", 1.815) == tuple(result["ship"][name] for name in ("r", "made", "loss"))
