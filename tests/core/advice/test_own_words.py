"""One sentence on what a sweep of the very model says."""

import pytest

from rankviz.core.advice.own_words import OwnResult, own_sentence


@pytest.mark.parametrize(
    ("ranks", "best", "smallest", "end"),
    [
        ((2, 8, 32), 32, 8, "r = 32 has the lowest loss, and r = 8 is the smallest rank that cannot be distinguished"),
        ((2, 8, 32), 2, 2, "r = 2 has the lowest loss and is the smallest rank tried."),
        ((2, 8, 32), 8, 8, "r = 8 has the lowest loss, and every smaller rank is worse by more than the noise."),
        ((2, 8, 32), 8, None, "but no verdict is possible: the effect of another seed is not known."),
        ((2, 8, 32), None, None, "; r = 2, 8 and 32): no verdict yet."),
        ((8,), 8, None, "r = 8 has the lowest loss, and no other rank was run."),
    ],
)
def test_the_sentence_gives_the_answer_of_the_verdict(ranks, best, smallest, end):
    assert end in own_sentence(
        OwnResult(recorded=False, made_of="phonemes, 400 steps", ranks=ranks, best=best, smallest=smallest)
    )


def test_it_says_whose_sweep_it_is():
    own, recorded = (
        own_sentence(OwnResult(recorded=each, made_of="phonemes, 400 steps", ranks=(2, 8), best=2, smallest=2))
        for each in (False, True)
    )

    assert own.startswith("Your newest sweep of this model (phonemes, 400 steps; r = 2 and 8): ")
    assert recorded.startswith("A recorded sweep of this model (phonemes, 400 steps; r = 2 and 8): ")
