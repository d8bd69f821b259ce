"""The activations of a Llama as the formulas have them, against what autograd really holds in whole training steps."""

import pytest

from rankviz.core.cost.memory import memory_at, memory_terms
from rankviz.core.cost.shapes import model_shape
from tests.support.models.small_llama_step import ATTENTION, PROGRAMS, QV, SEVEN, formula_inputs, run_step

pytestmark = pytest.mark.torch


def measured_working_bytes(**settings):
    """Peak of all that a forward and a backward pass allocate, the adapter's small gradients included."""
    from rankviz.worker.introspect.activations import LiveBytes

    live = LiveBytes()
    run_step(live, **settings)
    return live.peak


def estimated_working_bytes(**settings):
    spec, plan, stack = formula_inputs(**settings)
    memory = memory_at(memory_terms(spec, model_shape(spec, plan.adapted), stack, None), 2, plan.parameters(2))
    return memory.activations + memory.logits + memory.other


@pytest.mark.parametrize("targets", [QV, ATTENTION, SEVEN], ids=["qv", "attention", "seven"])
@pytest.mark.parametrize("checkpointing", ["hf", "none"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_blocks_working_set_is_what_autograd_holds(program, checkpointing, targets):
    settings = {**PROGRAMS[program], "checkpointing": checkpointing, "targets": targets, "vocab": 32}

    assert estimated_working_bytes(**settings) == pytest.approx(measured_working_bytes(**settings), rel=0.05)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_loss_is_what_autograd_holds_where_the_vocabulary_is_large(program):
    settings = {**PROGRAMS[program], "checkpointing": "hf", "targets": ATTENTION, "vocab": 4000}

    assert estimated_working_bytes(**settings) == pytest.approx(measured_working_bytes(**settings), rel=0.05)
