"""Memory and parameters, predicted against measured, published lines, and losses by step."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.question import Question
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.runs.record import Sweep
from rankviz.core.studies.lines import nearest
from rankviz.figures import (
    accuracy_info,
    memory_figure,
    memory_info,
    parameters_info,
    studies_figure,
    studies_info,
    training_info,
)
from tests.support.runs.finished_runs import plain_sweep
from tests.support.runs.studies_toy import evidence, point, subject
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu

API = Api()
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
    assert [[128, 128], [96, 96]] == info.cells
    assert 448 == sum(row["parameters"] for row in info.rows)


def test_every_row_that_can_be_compared_is_a_point_and_every_row_is_in_the_table():
    report = API.estimates.accuracy()
    memory = accuracy_info(report)

    assert (200, len(report.rows)) == (len(memory.points), len(memory.rows))


def parameters(line):
    """10 parameters per unit of rank."""
    return [10 * r for r in line.ranks]


def test_a_line_is_how_far_each_rank_is_from_the_best_in_percent():
    """Tinker on Llama-3.1-8B: 0.5925, 0.5863, 0.5839, 0.5834 at r = 4, 16, 64, 128."""
    who = API.studies.subject("meta-llama/Llama-3.1-8B", "instruction")
    near = API.studies.near(who, ("lora",), ("attention and mlp",))[:1]

    info = studies_info(near, parameters=parameters, chosen_r=16)
    trace = studies_figure(info).data[0]

    assert (4, 16, 64, 128) == trace.x[:4]
    assert [1.56, 0.50, 0.09, 0.0] == [round(y, 2) for y in trace.y[:4]]
    assert (16, 160) == (info.chosen_r, info.rows[1]["trainable_parameters"])


@pytest.mark.parametrize("best", [0.0, 5e-324])
def test_a_line_whose_best_value_is_0_has_no_percentages(best):
    """A test accuracy of nothing at every rank."""
    toy = evidence([point(r, best, metric="accuracy", higher_is_better=True) for r in (4, 16)])

    assert [] == studies_info(nearest(toy.lines, subject()), parameters=parameters).lines


def test_of_a_long_run_so_many_steps_are_drawn_as_a_screen_shows_and_no_peak_is_lost():
    (run,) = plain_sweep({8: 2.0}).runs
    losses = {n: 99.0 if n == 54_321 else 2.0 + n % 7 for n in range(1, 100_001)}
    steps = tuple(replace(run.steps[0], step=n, loss=loss, tokens=n, seconds=float(n)) for n, loss in losses.items())

    info = training_info([Sweep(sweep_id="s1", runs=(replace(run, steps=steps),))])

    (curve,) = info.curves
    assert 900 <= len(curve.steps) <= 1000 >= len(info.rows)
    assert (1, 100_000, 99.0) == (curve.steps[0], curve.steps[-1], curve.losses[curve.steps.index(54_321)])
    assert sorted(curve.steps) == list(curve.steps)
    assert "At most 1000 steps of each run are shown" in info.source
