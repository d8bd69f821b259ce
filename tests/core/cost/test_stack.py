"""A stack knows the habits of its program, and works them out once."""

from dataclasses import replace

from rankviz.core.cost import stack as stacks
from tests.core.cost.memory.toy_memory import estimate, stack


def test_the_habits_follow_the_setup_and_those_of_a_measured_row():
    trl = stack("trl")

    assert stack("unsloth").habits.unsloth_kernels and not trl.habits.unsloth_kernels
    other = replace(trl, measured_habits=replace(trl.habits, fp32_residual=True))
    assert (2, 4) == (trl.residual_bytes, other.residual_bytes)


def test_an_estimate_works_them_out_once_a_prediction_and_not_once_a_block(monkeypatch):
    made = []
    habits_of = stacks.habits_of
    monkeypatch.setattr(stacks, "habits_of", lambda *args: made.append(args) or habits_of(*args))

    estimate(framework="trl")

    assert 1 <= len(made) <= 2
