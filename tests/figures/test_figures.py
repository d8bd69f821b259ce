"""What figures draw where, what all share, and a figure as a file."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from rankviz import figures
from rankviz.api import Api
from rankviz.core.cost.estimate import estimate
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.runs.metric import TOKEN_ACCURACY
from rankviz.core.runs.record import Sweep
from rankviz.core.spectrum import LayerSpectrum, Spectrum
from rankviz.core.studies.lines import nearest
from rankviz.errors import InvalidSettingError
from rankviz.figures import (
    accuracy_figure,
    energy_figure,
    memory_figure,
    modules_figure,
    parameters_figure,
    plot_file,
    spectrum_figure,
    studies_figure,
    sweep_figure,
    sweep_info,
    training_figure,
    write_figure,
)
from rankviz.figures.adapter import MOST_POINTS
from rankviz.figures.style import image_problem
from rankviz.verdict import judge, losses_of
from tests.support.runs.finished_runs import finished, plain_sweep
from tests.support.runs.studies_toy import evidence, point, subject
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu

SWEEP = Api().runs.recorded()[0]
VERDICT = Api().verdicts.of_sweep(SWEEP.sweep_id)


@pytest.mark.parametrize(
    "drawing",
    [
        sweep_figure(sweep_info([(SWEEP, VERDICT)])),
        sweep_figure(sweep_info([(SWEEP, VERDICT)], x="adapter")),
        training_figure([SWEEP]),
        training_figure([]),
    ],
)
def test_a_page_gets_what_plotly_makes_of_the_same_figure_once_it_is_checked(drawing):
    checked = drawing.plotly().to_dict()

    assert json.loads(json.dumps(drawing.data)) == checked["data"]
    assert {name: value for name, value in drawing.layout.items() if value != []} == checked["layout"]


def test_what_a_page_draws_needs_no_plotly():
    program = """
import sys
from rankviz.figures import training_figure
from tests.support.runs.finished_runs import plain_sweep
training_figure([plain_sweep({4: 2.0, 16: 1.5})])
print("plotly" in sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()


FIGURE = training_figure([plain_sweep({4: 2.0})])


def test_html_holds_plotly_the_title_and_the_source_and_asks_nothing_of_a_network(tmp_path):
    path = write_figure(FIGURE, tmp_path / "loss.html", title="Loss of <b>", source="Measured here.")

    page = path.read_text(encoding="utf-8")
    assert "Measured here." in page
    assert "Loss of &lt;b&gt;" in page.replace("\\u0026", "&").replace("\\u003c", "<").replace("\\u003e", ">")
    assert len(page) > 1_000_000  # plotly.js itself
    assert '<script src="' not in page and '<img src="https' not in page


def test_an_unknown_ending_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(InvalidSettingError, match=r"ends in \.html, \.png or \.svg \(got loss\.pdf\)"):
        plot_file(tmp_path / "loss.pdf")
    with pytest.raises(InvalidSettingError, match=r"The folder .*nowhere does not exist"):
        plot_file(tmp_path / "nowhere" / "loss.html")


def test_pictures_that_cannot_be_drawn_here_are_refused_and_html_is_not(tmp_path):
    def problem():
        return "no browser."

    with pytest.raises(InvalidSettingError, match=r"loss\.png cannot be written: no browser\. Or choose \.html"):
        plot_file(tmp_path / "loss.png", image_problem=problem)
    assert tmp_path / "loss.html" == plot_file(tmp_path / "loss.html", image_problem=problem)


@pytest.mark.skipif(bool(image_problem()), reason=image_problem())
def test_a_picture_is_drawn_by_the_browser_of_this_machine(tmp_path):
    path = write_figure(FIGURE, tmp_path / "loss.svg", title="Loss", source="Measured here.")

    content = path.read_bytes()
    assert content.startswith(b"<svg") and b"Measured here." in content


QWEN = Question(model_id="Qwen/Qwen3-8B", gpu="l4", training=TrainingSetup(max_steps=1000))


def test_each_rank_lies_at_its_exact_cost(api):
    tradeoff = api.studies.tradeoff(QWEN)
    by_rank = {rank.r: rank for rank in tradeoff.estimate.ranks}

    assert [by_rank[r].adapter_bytes / 1e6 for r in range(1, 257)] == figures.hero_info(tradeoff).xs
    money = figures.hero_info(tradeoff, x="money")
    assert by_rank[16].usd.expected == money.xs[15]
    assert ["r = 1–256"] == figures.hero_figure(money).layout["xaxis2"]["ticktext"]


def test_a_published_line_of_another_moe_scheme_lies_at_its_own_parameters(api):
    """Tinker's r = 32 on Qwen3-30B-A3B is 32 · 15,440,256 parameters: Unsloth's, of 40,157,184 a rank, at r = 12.3."""
    question = Question(model_id="Qwen/Qwen3-30B-A3B")
    tradeoff = api.studies.tradeoff(question, quality="percent")

    line = next(line for line in figures.hero_info(tradeoff).lines if "Tinker" in line.label)
    by_rank = next(line for line in figures.hero_info(tradeoff, x="rank").lines if "Tinker" in line.label)

    one = {rank.r: rank.adapter_bytes / 1e6 for rank in tradeoff.estimate.ranks}
    for at in line.points:
        r = at.r * 15_440_256 / 40_157_184
        assert one[1] * r == pytest.approx(at.x, rel=0.01)
        assert max(1, round(r)) == at.chosen
    assert "another MoE scheme" in line.points[0].text
    assert "Qwen3-30B-A3B (Tinker SFT sweep, experts share a factor)" == line.label
    assert [point.r for point in line.points] == [point.x for point in by_rank.points]


def test_a_newest_sweep_with_one_rank_or_ranks_beyond_the_chart_leaves_the_older_one_drawn(api):
    for losses in ({4: 2.0, 16: 1.5}, {64: 1.4}, {16: 1.5, 512: 1.3}):
        finished(api, losses)

    info = figures.hero_info(api.studies.tradeoff(Question(model_id="embedded"), quality="percent"))

    assert [[4, 16]] == [[point.r for point in line.points] for line in info.lines if line.kind == "runs"]
    assert {"forecast", "published", "runs"} == {row["kind"] for row in info.rows if row["value"] != ""}


API = Api()
GIB = 2**30


def test_the_memory_of_each_rank_adds_up_to_what_is_allocated():
    answer = estimate(TOY, Question(model_id=TOY.id, ranks=(4, 16)), gpu(), ASSUMPTIONS)

    drawing = memory_figure(answer, chosen_r=16)

    figure = drawing.plotly()
    stacks = zip(*(trace.y for trace in figure.data if trace.type == "bar"), strict=True)
    assert [rank.memory.allocated / GIB for rank in answer.ranks] == pytest.approx([*map(sum, stacks)])
    assert ("4", "<b>16</b>") == figure.data[0].x and 22.0 == figure.layout.shapes[0].y0
    assert "22.00 GiB usable" == figure.layout.shapes[0].name and 1 == figure.layout.shapes[1].x0
    assert [rank.memory.low for rank in answer.ranks] == [row["low"] for row in drawing.rows]


def test_parameters_are_by_module_and_block():
    """q_proj is 16 × 16 and v_proj 16 × 8: 32 and 24 parameters per unit of rank."""
    plan = resolve(TOY, LoraConfig(target_modules=("q_proj", "v_proj")), "unsloth")

    drawing = parameters_figure(plan, 4)

    (map_,) = drawing.data
    assert (["q_proj", "v_proj"], ["0", "1"], [[128, 128], [96, 96]]) == (map_["y"], map_["x"], map_["z"])
    assert 448 == sum(row["parameters"] for row in drawing.rows)


def test_every_row_that_can_be_compared_is_a_point_and_every_row_is_in_the_table():
    report = API.estimates.accuracy()
    memory = accuracy_figure(report)

    assert (200, len(report.rows)) == (sum(len(trace["x"]) for trace in memory.data[1:]), len(memory.rows))


def parameters(line):
    """10 parameters per unit of rank."""
    return [10 * r for r in line.ranks]


def test_a_line_is_how_far_each_rank_is_from_the_best_in_percent():
    """Tinker on Llama-3.1-8B: 0.5925, 0.5863, 0.5839, 0.5834 at r = 4, 16, 64, 128."""
    who = API.studies.subject("meta-llama/Llama-3.1-8B", "instruction")
    near = API.studies.near(who, ("lora",), ("attention and mlp",))[:1]

    drawing = studies_figure(near, parameters=parameters, chosen_r=16)

    trace, (mark,) = drawing.data[0], drawing.layout["shapes"]
    assert [4, 16, 64, 128] == trace["x"][:4]
    assert [1.56, 0.50, 0.09, 0.0] == [round(y, 2) for y in trace["y"][:4]]
    assert (16, 160) == (mark["x0"], drawing.rows[1]["trainable_parameters"])


@pytest.mark.parametrize("best", [0.0, 5e-324])
def test_a_line_whose_best_value_is_0_has_no_percentages(best):
    """A test accuracy of nothing at every rank."""
    toy = evidence([point(r, best, metric="accuracy", higher_is_better=True) for r in (4, 16)])

    assert [] == studies_figure(nearest(toy.lines, subject()), parameters=parameters).data


def test_of_a_long_run_so_many_steps_are_drawn_as_a_screen_shows_and_no_peak_is_lost():
    (run,) = plain_sweep({8: 2.0}).runs
    losses = {n: 99.0 if n == 54_321 else 2.0 + n % 7 for n in range(1, 100_001)}
    steps = tuple(replace(run.steps[0], step=n, loss=loss, tokens=n, seconds=float(n)) for n, loss in losses.items())

    drawing = training_figure([Sweep(sweep_id="s1", runs=(replace(run, steps=steps),))])

    drawn, losses = drawing.data[0]["x"], drawing.data[0]["y"]
    assert 900 <= len(drawn) <= 1000 >= len(drawing.rows)
    assert (1, 100_000, 99.0) == (drawn[0], drawn[-1], losses[drawn.index(54_321)])
    assert sorted(drawn) == drawn
    assert "At most 1000 steps of each run are shown" in drawing.source


def verdict_of(sweep, **more):
    return judge(losses_of(sweep.runs, *more.values()), **more)


def test_each_rank_lies_at_its_cost_and_mean_loss():
    """1 MB per rank; the second seed is worse by 0.1, so the standard deviation is 0.1 / √2."""
    sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1))
    verdict = verdict_of(sweep)

    (group,) = sweep_info([(sweep, verdict)], x="adapter").groups
    info = sweep_info([(sweep, verdict)])

    assert [(4, 4.0), (16, 16.0)] == [(p.r, p.x) for p in group.points]
    assert [2.05, 1.55] == pytest.approx([p.y for p in group.points])
    assert 0.1 / 2**0.5 == pytest.approx(group.points[0].error)
    assert "learning rate 0.001, 2 seeds, bar is one standard deviation" in group.points[0].text
    old, weighed = (sweep_info([(each, verdict_of(each))]).groups[0].points[0].text for each in (SWEEP, sweep))
    assert ("mean over examples" in old, "mean over examples" in weighed) == (True, False)
    assert list(group.points) == list(group.front)
    assert [4, 16] == [p.x for p in info.groups[0].points]
    assert [("independent runs", 4, 2), ("independent runs", 16, 2)] == [
        (row["kind"], row["r"], row["runs"]) for row in info.rows
    ]


def test_the_front_joins_points_of_one_sweep_only():
    sweeps = [replace(plain_sweep({4: 2.0, 16: 1.5, 64: 1.6}), sweep_id=name) for name in ("one", "two")]

    figure = sweep_figure(sweep_info([(sweep, verdict_of(sweep)) for sweep in sweeps], x="adapter")).plotly()

    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [(4.0, 16.0)] * 2 == [line.x for line in lines]  # r = 64 costs more and is worse
    assert [True, False] == [line.showlegend for line in lines]
    assert 2 == len({trace.marker.symbol for trace in figure.data if trace.error_y.visible is not None})
    assert ("r = 4", "16", "64") == figure.layout.xaxis2.ticktext  # beside no mark


def test_an_accuracy_is_higher_on_the_axis_and_its_verdict_is_in_points():
    sweep = plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1, 2))
    hits = {4: 60, 16: 80}
    runs = [
        replace(run, loss_after=replace(run.loss_after, tokens=100, correct_tokens=hits[r] + run.request.seed))
        for run in sweep.runs
        for r in [run.request.r]
    ]
    sweep = replace(sweep, runs=tuple(runs))

    info = sweep_info([(sweep, verdict_of(sweep, metric=TOKEN_ACCURACY))], x="adapter", metric=TOKEN_ACCURACY)

    (group,) = info.groups
    assert [(4, 61.0), (16, 81.0)] == [(p.r, p.y) for p in group.points]
    assert list(group.points) == list(group.front)
    assert 16 == group.smallest.r
    assert [61.0, 81.0] == [row["token_accuracy_percent"] for row in info.rows]
    assert "r = 16 is best" in info.source and "Learning rate not tuned (0.001)" in info.source


def test_runs_have_the_marks_of_the_verdict_and_the_legend_its_words():
    sweep = plain_sweep({4: 2.5, 16: 1.5, 64: 1.5}, seeds=(0, 1, 2))

    figure = sweep_figure(sweep_info([(sweep, verdict_of(sweep))])).plotly()

    assert {
        "measured: best rank": ("diamond", (16,)),
        "measured: worse than the best": ("circle", (4,)),
        "measured: equal within the tolerance": ("square", (64,)),
    } == {trace.name: (trace.marker.symbol, trace.x) for trace in figure.data}
    assert ["r = 16: smallest rank to consider"] == [line.name for line in figure.layout.shapes if line.showlegend]


MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def layer(name: str, values: tuple[float, ...]) -> LayerSpectrum:
    return LayerSpectrum(name=name, module=name, r=len(values), scale=1.0, singular_values=values)


def adapter(layers: list[LayerSpectrum]) -> Spectrum:
    return Spectrum(name="large", r=max(each.r for each in layers), layers=tuple(layers))


def in_blocks(blocks: int, r: int) -> Spectrum:
    """Each block's values fall a little more slowly than those of the one before."""
    return adapter(
        [
            layer(f"layers.{block}.{module}", tuple((0.5 + 0.4 * block / blocks) ** i for i in range(r)))
            for block in range(blocks)
            for module in MODULES
        ]
    )


DEEP = in_blocks(blocks=2000, r=2)
WIDE = adapter([layer(f"module_{i}", (1.0, i / 5000)) for i in range(5000)])
HIGH = adapter([layer("q_proj", tuple(1 / i for i in range(1, 10_001)))])
"""One module of r = 10,000."""


def points(figure) -> int:
    traces = figure.plotly().to_dict()["data"]
    maps = sum(len(row) for trace in traces for row in trace.get("z", ()))
    return maps + sum(len(trace["x"]) for trace in traces if "z" not in trace)


@pytest.mark.parametrize("spectrum", [DEEP, WIDE, HIGH], ids=["deep", "wide", "high"])
def test_no_figure_or_table_has_more_than_a_screen_can_show(spectrum):
    drawn = energy_figure(spectrum, r=1), modules_figure(spectrum, r=1), spectrum_figure(spectrum)

    assert all(points(figure) <= 1.5 * MOST_POINTS >= len(figure.rows) for figure in drawn)


BOTH = adapter(
    [layer("layers.0.a", (4.0, 3.0, 0.0)), layer("layers.0.b", (1.0, 1.0, 1.0)), layer("layers.1.b", (0.0,))]
)
"""Energies 16 + 9 + 0 and 1 + 1 + 1: r = 1 keeps 17 of 28, and a third of b. One has no update."""


def test_the_map_shows_what_each_module_keeps_and_a_cross_without_update():
    kept = modules_figure(BOTH, r=1, ranks={"layers.0.a": 1}, chosen="layers.0.b")
    (drawn,), (frame,) = kept.data, kept.layout["shapes"]

    assert [64.0, pytest.approx(100 / 3)] == [row[0] for row in drawn["z"]]
    assert [["", ""], ["", "×"]] == drawn["text"]
    assert "r = 1 keeps 64.00 %<br>99 % needs r = 2, 90 % needs r = 2" in drawn["hovertext"][0][0]
    assert (0.5, -0.5) == (frame["y0"], frame["x0"])
    assert (1, 0.64) == (kept.rows[0]["truncated_to"], kept.rows[0]["energy_kept"])


def test_the_spectrum_begins_with_the_module_that_needs_the_highest_rank_and_zero_is_no_point():
    first, dead, a = (spectrum_figure(BOTH, module=name) for name in ("", "layers.1.b", "layers.0.a"))

    assert ([1, 2, 3], [1.0, 1.0, 1.0]) == (first.data[0]["x"], first.data[0]["y"])
    assert [] == dead.data and "layers.1.b has no update" in dead.layout["annotations"][0]["text"]
    assert [4.0, 3.0, None] == a.data[-1]["y"]
