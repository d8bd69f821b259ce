"""Bytes that a block's operators move as the formula has them, against what torch's operators read and write."""

import pytest

from rankviz.core.cost.shapes import model_shape
from rankviz.core.cost.work import work_of
from tests.support.small_llama_step import ATTENTION, BATCH, LENGTH, PROGRAMS, QV, SEVEN, asked_of_rankviz, run_step

pytestmark = pytest.mark.torch


def moved(**asked):
    from tests.support.moved_bytes import MovedBytes

    counted = MovedBytes()
    run_step(counted, **asked)
    return counted.total


def estimated(**asked):
    spec, plan, stack = asked_of_rankviz(**asked)
    return work_of(spec, model_shape(spec, plan.adapted), stack).bytes_moved


@pytest.mark.parametrize("targets", [QV, ATTENTION, SEVEN], ids=["qv", "attention", "seven"])
@pytest.mark.parametrize("checkpointing", ["hf", "none"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_block_moves_what_its_operators_read_and_write(program, checkpointing, targets):
    asked = {**PROGRAMS[program], "checkpointing": checkpointing, "targets": targets, "vocab": 32}

    of_one_block = [count(**asked, blocks=3) - count(**asked, blocks=2) for count in (estimated, moved)]

    assert of_one_block[0] == pytest.approx(of_one_block[1], rel=0.12)


def test_the_loss_moves_what_its_operators_read_and_write():
    asked = {**PROGRAMS["autocast, fp32 adapter"], "checkpointing": "hf", "targets": QV}

    of_a_logit = [
        (count(**asked, vocab=4032) - count(**asked, vocab=32)) / (4000 * BATCH * LENGTH)
        for count in (estimated, moved)
    ]

    assert of_a_logit[0] == pytest.approx(of_a_logit[1], rel=0.05)
