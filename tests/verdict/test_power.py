"""How many seeds or examples would tell: against simulation, and what the sentences make of it."""

import numpy as np
import pytest

from rankviz.verdict import CANT_TELL, EQUAL, judge, sentences
from rankviz.verdict.noise import PairNoise, RunNoise
from rankviz.verdict.power import SEEDS, chance_to_tell, needed
from tests.support.runs.verdict_tables import planted, table

RUN, LIKES, REST, EXAMPLES = 0.02, 0.05, 0.1, 64


def noise(ranks, seeds):
    """What fit() finds on average where the runs' luck is RUN, and so on."""
    variance = RUN**2 + REST**2 / EXAMPLES
    runs = RunNoise(
        ranks=ranks,
        paired_variance=variance,
        paired_freedom=(ranks - 1) * (seeds - 1),
        variance=variance,
        freedom=ranks * (seeds - 1),
        rest_variance=REST**2,
    )
    return runs, PairNoise(seeds=seeds, weight=2 / seeds, examples_variance=2 * LIKES**2 / EXAMPLES)


@pytest.mark.parametrize(
    ("ranks", "seeds", "gap", "tolerance"),
    [(2, 3, 0.1, 0.02), (2, 5, 0.06, 0.02), (3, 5, 0.05, 0.02), (3, 6, 0.0, 0.06)],
    ids=["two ranks", "more seeds", "three ranks", "to show them equal"],
)
def test_the_chance_to_tell_is_the_share_of_planted_sweeps_that_tell(ranks, seeds, gap, tolerance):
    generator, times = np.random.default_rng(5), 300
    losses = {4: 1.8 + gap, 16: 1.8, 64: 1.8} if ranks == 3 else {4: 1.8 + gap, 16: 1.8}
    tables = [planted(generator, losses, seeds=seeds, rank_by_example_sd=LIKES, rest_sd=REST) for _ in range(times)]
    decided = sum(judge(runs, tolerance=tolerance).pair(4, 16).call != CANT_TELL for runs in tables) / times

    chance = chance_to_tell(*noise(ranks, seeds), seeds, EXAMPLES, EXAMPLES, gap, tolerance)

    assert pytest.approx(decided, abs=0.1) == chance
    assert 0.2 < chance < 0.99


def test_luck_of_a_seed_that_all_ranks_share_leaves_the_comparison_within_seeds_alone():
    """Unpaired runs of two seeds have two degrees of freedom, differences within seeds one."""
    runs, pair = noise(2, 2)
    shared = RunNoise(**{**vars(runs), "variance": 9 * runs.variance})

    alone, both = (chance_to_tell(each, pair, 2, EXAMPLES, EXAMPLES, 0.15, 0.02) for each in (shared, runs))

    assert alone < both - 0.05


def test_the_seeds_needed_are_the_first_with_four_chances_in_five():
    runs, pair = noise(2, 3)

    need = needed(runs, pair, EXAMPLES, 0.06, 0.02)

    def chance(seeds):
        return chance_to_tell(runs, pair, seeds, EXAMPLES, EXAMPLES, 0.06, 0.02)

    before = SEEDS[SEEDS.index(need.seeds) - 1]
    assert chance(before) < 0.8 <= chance(need.seeds)
    assert need.seeds_low <= need.seeds <= (need.seeds_high or 51)


def test_more_examples_do_not_help_where_runs_are_the_noise_and_do_where_examples_are():
    runs, pair = noise(3, 3)
    quiet = RunNoise(**{**vars(runs), "paired_variance": 1e-6, "variance": 1e-6, "rest_variance": 1e-6})
    fussy = PairNoise(seeds=3, weight=2 / 3, examples_variance=0.02**2)

    assert needed(runs, pair, EXAMPLES, 0.03, 0.02).examples is None
    # The interval is about 2.4 · 0.02 / sqrt(examples / 64): 0.024 with four times as many, 0.017 with eight times.
    assert 8 * EXAMPLES == needed(quiet, fussy, EXAMPLES, 0.03, 0.001).examples
    assert needed(quiet, fussy, EXAMPLES, 0.03, 0.001).runs_share < 0.01


def test_the_sentences_say_what_would_tell():
    verdict = judge(table({4: [[1.88], [1.80], [1.90]], 16: [[1.84], [1.82], [1.82]], 64: [[2.4], [2.42], [2.38]]}))

    need = verdict.needed(verdict.pair(4, 16))

    assert (CANT_TELL, 16) == (verdict.pair(4, 16).call, verdict.best)
    high = "more than 50" if need.seeds_high is None else need.seeds_high
    assert (
        "If the observed gap of 0.033 nats between r = 4 and r = 16 is real, about "
        f"{need.seeds} seeds per rank ({need.seeds - 3} more; {need.seeds_low} to {high}, because the noise is "
        "estimated from few runs) would confirm it."
    ) in " ".join(sentences(verdict))
    assert need.seeds_low < need.seeds


def test_a_pair_that_is_told_needs_nothing():
    verdict = judge(table({4: [[1.0], [1.001], [1.0]], 16: [[1.0], [1.0], [1.001]]}))

    assert EQUAL == verdict.pairs[0].call
    assert verdict.needed(verdict.pairs[0]) is None
