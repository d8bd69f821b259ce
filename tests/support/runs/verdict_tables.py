"""Tables of losses for the tests of the verdict: from given numbers, and planted with known noise."""

import numpy as np

from rankviz.verdict import RunLosses


def run(r, seed, losses, *, rate=None):
    """One run, examples numbered by their place."""
    return RunLosses(
        r=r, seed=str(seed), learning_rate=rate, losses=np.array(losses, float), examples=np.arange(len(losses))
    )


def table(by_rank, *, rate=None):
    """{r: [losses of seed 0, losses of seed 1, ...]}."""
    return [run(r, seed, losses, rate=rate) for r, seeds in by_rank.items() for seed, losses in enumerate(seeds)]


def planted(
    generator, losses, *, seeds=3, examples=64, run_sd=0.02, shared_seed_sd=0.0, rank_by_example_sd=0.05, rest_sd=0.1
):
    """Runs with these true losses by rank. Examples are of unequal difficulty, as for every rank; each rank likes
    other examples; each run has its own luck, and shares some with the runs of its seed."""
    difficulty, luck = generator.normal(0, 0.5, examples), generator.normal(0, shared_seed_sd, seeds)
    likes = {r: generator.normal(0, rank_by_example_sd, examples) for r in losses}
    return [
        run(
            r,
            seed,
            loss
            + difficulty
            + likes[r]
            + luck[seed]
            + generator.normal(0, run_sd)
            + generator.normal(0, rest_sd, examples),
        )
        for r, loss in losses.items()
        for seed in range(seeds)
    ]


def pair_of(verdict, r, s):
    """Pair of two ranks, r < s."""
    return next(pair for pair in verdict.pairs if (pair.r, pair.s) == (r, s))
