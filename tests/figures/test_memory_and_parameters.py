"""Memory by component, and parameters by module and block."""

from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.question import Question
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.figures import (
    MemoryInfo,
    ParametersInfo,
    memory_figure,
    memory_info,
    parameters_figure,
    parameters_info,
)
from rankviz.figures.cost import COMPONENTS, MemoryBar
from rankviz.figures.style import ESTIMATED, rgba
from tests.figures.support import named
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu

GIB = 2**30


def test_the_memory_of_each_rank_adds_up_to_what_is_allocated():
    answer = estimate(TOY, Question(model_id=TOY.id, ranks=(4, 16)), gpu(), ASSUMPTIONS)

    info = memory_info(answer, chosen_r=16)

    assert [4, 16] == [bar.r for bar in info.bars]
    assert [rank.memory.allocated for rank in answer.ranks] == [sum(bar.components.values()) for bar in info.bars]
    assert (22 * GIB, "Toy card", 16) == (info.usable_bytes, info.gpu_name, info.chosen_r)
    assert [rank.memory.low for rank in answer.ranks] == [row["low"] for row in info.rows]


def test_memory_bars_are_in_gib_with_the_range_above_and_the_card_across():
    sizes = dict.fromkeys(COMPONENTS, 0) | {"base weights": 4 * GIB, "adapter": GIB}
    bars = [MemoryBar(r=8, components=sizes, low=5 * GIB, high=7 * GIB)]

    figure = memory_figure(MemoryInfo(bars, chosen_r=8, usable_bytes=22 * GIB, gpu_name="L4"))

    assert (4.0,) == named(figure, "base weights").y
    assert (1.0,) == named(figure, "adapter").y
    band = named(figure, "range on the card")
    assert (6.0,) == band.y
    assert (1.0,) == band.error_y.array
    assert 22.0 == figure.layout.shapes[0].y0
    assert ("<b>8</b>",) == named(figure, "adapter").x


def test_parameters_are_by_module_and_block():
    """q_proj is 16 × 16 and v_proj 16 × 8: 32 and 24 parameters per unit of rank."""
    plan = resolve(TOY, LoraConfig(target_modules=("q_proj", "v_proj")), "unsloth")

    info = parameters_info(plan, 4)

    assert (["q_proj", "v_proj"], ["0", "1"]) == (list(info.modules), list(info.blocks))
    assert [(128, 128), (96, 96)] == list(info.parameters)
    assert 448 == sum(row["parameters"] for row in info.rows)


def test_a_module_that_a_block_lacks_is_an_empty_cell():
    figure = parameters_figure(ParametersInfo(["q_proj", "down_proj"], ["0", "1"], [[10, 0], [5, 5]], r=4))

    assert ((10, None), (5, 5)) == tuple(tuple(row) for row in figure.data[0].z)
    assert rgba(ESTIMATED, 0.95) == figure.data[0].colorscale[1][1]
