"""A Llama's activations and memory traffic as the formulas have them, against whole training steps in torch."""

import pytest

from rankviz.core.cost.duration import work_of
from rankviz.core.cost.memory import MemoryTerms
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


def measured_working_bytes(**settings):
    """Peak of all that a forward and a backward pass allocate, the adapter's small gradients included."""
    from rankviz.worker.introspect.activations import LiveBytes

    live = LiveBytes()
    run_step(live, **settings)
    return live.peak


def estimated_working_bytes(**settings):
    spec, plan, stack = formula_inputs(**settings)
    return MemoryTerms(spec, model_shape(spec, plan.adapted), stack).at(2, plan.parameters(2)).working


def moved(**settings):
    """Bytes that torch's operators read and write."""
    from tests.support.processes.moved_bytes import MovedBytes

    counted = MovedBytes()
    run_step(counted, **settings)
    return counted.total


def estimated_moved(**settings):
    spec, plan, stack = formula_inputs(**settings)
    return work_of(spec, model_shape(spec, plan.adapted), stack).bytes_moved


@pytest.mark.parametrize("targets", [QV, SEVEN], ids=["qv", "seven"])
@pytest.mark.parametrize("checkpointing", ["hf", "none"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_block_holds_what_autograd_holds_and_moves_what_its_operators_move(program, checkpointing, targets):
    settings = {**PROGRAMS[program], "checkpointing": checkpointing, "targets": targets, "vocab": 32}

    assert estimated_working_bytes(**settings) == pytest.approx(measured_working_bytes(**settings), rel=0.05)
    block = [count(**settings, blocks=3) - count(**settings, blocks=2) for count in (estimated_moved, moved)]
    assert block[0] == pytest.approx(block[1], rel=0.12)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_loss_is_what_autograd_holds_where_the_vocabulary_is_large(program):
    settings = {**PROGRAMS[program], "checkpointing": "hf", "targets": ATTENTION, "vocab": 4000}

    assert estimated_working_bytes(**settings) == pytest.approx(measured_working_bytes(**settings), rel=0.05)


def test_the_loss_moves_what_its_operators_read_and_write():
    settings = {**PROGRAMS["autocast, output held"], "checkpointing": "hf", "targets": QV}

    of_a_logit = [
        (count(**settings, vocab=4032) - count(**settings, vocab=32)) / (4000 * BATCH * LENGTH)
        for count in (estimated_moved, moved)
    ]

    assert of_a_logit[0] == pytest.approx(of_a_logit[1], rel=0.05)
