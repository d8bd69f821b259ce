"""Memory by component, and parameters by module and block."""

import pytest

from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.question import Question
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.figures import (
    memory_figure,
    memory_info,
    parameters_info,
)
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu

GIB = 2**30


def test_the_memory_of_each_rank_adds_up_to_what_is_allocated():
    answer = estimate(TOY, Question(model_id=TOY.id, ranks=(4, 16)), gpu(), ASSUMPTIONS)

    info = memory_info(answer, chosen_r=16)

    figure = memory_figure(info)
    stacks = zip(*(trace.y for trace in figure.data if trace.type == "bar"), strict=True)
    assert [rank.memory.allocated / GIB for rank in answer.ranks] == pytest.approx([*map(sum, stacks)])
    assert ("4", "<b>16</b>") == figure.data[0].x and 22.0 == figure.layout.shapes[0].y0
    assert (22 * GIB, "Toy card", 16) == (info.usable_bytes, info.gpu_name, info.chosen_r)
    assert [rank.memory.low for rank in answer.ranks] == [row["low"] for row in info.rows]


def test_parameters_are_by_module_and_block():
    """q_proj is 16 × 16 and v_proj 16 × 8: 32 and 24 parameters per unit of rank."""
    plan = resolve(TOY, LoraConfig(target_modules=("q_proj", "v_proj")), "unsloth")

    info = parameters_info(plan, 4)

    assert (["q_proj", "v_proj"], ["0", "1"]) == (list(info.modules), list(info.blocks))
    assert [[128, 128], [96, 96]] == info.parameters
    assert 448 == sum(row["parameters"] for row in info.rows)
