"""A verdict on many held-out examples: what it costs grows as they do, and of each it keeps a few bytes."""

import tracemalloc
from dataclasses import replace

import pytest

from rankviz.core.runs.metric import METRICS, TOKEN_ACCURACY
from rankviz.verdict import base_loss_of, judge, losses_of
from tests.support.runs.finished_runs import plain_sweep

COUNT = 20_000
KEPT_BYTES = 32
"""Of one example: its value and its number, with room."""


class Watched(tuple):
    """Counts how often it is read from end to end."""

    reads = 0

    def __iter__(self):
        Watched.reads += 1
        return super().__iter__()


def counted(run, examples):
    """The run as if it had so many examples, with everything that is kept of them."""
    lists = {
        "example_losses": (2.0, 1.5),
        "example_tokens": (3, 5),
        "example_correct_tokens": (1, 5),
        "example_exact_matches": (0, 1),
    }
    many = {name: Watched(values * (examples // 2)) for name, values in lists.items()}
    after = replace(run.loss_after, correct_tokens=60, **many)
    return replace(run, loss_before=after, loss_after=after)


@pytest.fixture
def runs():
    """Three seeds at each of two ranks."""
    return [counted(run, COUNT) for run in plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1, 2)).runs]


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_what_is_kept_of_the_examples_is_read_a_few_times_however_many_they_are(runs, metric):
    Watched.reads = 0

    verdict = judge(losses_of(runs, metric), metric=metric, base_loss=base_loss_of(runs, metric))

    assert COUNT == verdict.examples
    assert Watched.reads <= 10 * len(runs)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_of_an_example_a_few_bytes_are_kept(runs, metric):
    tracemalloc.start()
    try:
        losses = losses_of(runs, metric)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [COUNT] * len(runs) == [len(run.losses) for run in losses]
    assert kept < KEPT_BYTES * COUNT * len(runs)


def test_where_the_correct_tokens_of_single_examples_were_not_kept_the_whole_run_counts(runs):
    bare = [replace(run, loss_after=replace(run.loss_after, example_correct_tokens=())) for run in runs]

    assert [[40.0]] * len(runs) == [run.losses.tolist() for run in losses_of(bare, TOKEN_ACCURACY)]
