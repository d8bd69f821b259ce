"""Bytes that a block's operators move as the formula has them, against what torch's operators read and write."""

import pytest

from rankviz.core.cost.duration import work_of
from rankviz.core.cost.shapes import model_shape
from tests.support.models.small_llama_step import (
    ATTENTION,
    BATCH,
    LENGTH,
    PROGRAMS,
    QV,
    SEVEN,
    formula_inputs,
    run_step,
)

pytestmark = pytest.mark.torch


def moved(**settings):
    from tests.support.processes.moved_bytes import MovedBytes

    counted = MovedBytes()
    run_step(counted, **settings)
    return counted.total


def estimated(**settings):
    spec, plan, stack = formula_inputs(**settings)
    return work_of(spec, model_shape(spec, plan.adapted), stack).bytes_moved


@pytest.mark.parametrize("targets", [QV, ATTENTION, SEVEN], ids=["qv", "attention", "seven"])
@pytest.mark.parametrize("checkpointing", ["hf", "none"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_block_moves_what_its_operators_read_and_write(program, checkpointing, targets):
    settings = {**PROGRAMS[program], "checkpointing": checkpointing, "targets": targets, "vocab": 32}

    of_one_block = [count(**settings, blocks=3) - count(**settings, blocks=2) for count in (estimated, moved)]

    assert of_one_block[0] == pytest.approx(of_one_block[1], rel=0.12)


def test_the_loss_moves_what_its_operators_read_and_write():
    settings = {**PROGRAMS["autocast, output held"], "checkpointing": "hf", "targets": QV}

    of_a_logit = [
        (count(**settings, vocab=4032) - count(**settings, vocab=32)) / (4000 * BATCH * LENGTH)
        for count in (estimated, moved)
    ]

    assert of_a_logit[0] == pytest.approx(of_a_logit[1], rel=0.05)
