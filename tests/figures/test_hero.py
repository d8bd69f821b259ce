"""The trade-off chart: what is drawn where."""

import pytest

from rankviz import figures
from rankviz.api import Api
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from tests.support.runs.finished_runs import finished

QWEN = Question(model_id="Qwen/Qwen3-8B", gpu="l4", training=TrainingSetup(max_steps=1000))


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def test_each_rank_lies_at_its_exact_cost(api):
    tradeoff = api.tradeoffs.of(QWEN)
    by_rank = {rank.r: rank for rank in tradeoff.estimate.ranks}

    assert [by_rank[r].adapter_bytes / 1e6 for r in range(1, 257)] == figures.hero_info(tradeoff).xs
    money = figures.hero_info(tradeoff, x="money").xs
    assert by_rank[16].cost.usd.expected == money[15]


def test_without_costs_every_rank_lies_at_itself(api):
    info = figures.hero_info(api.tradeoffs.of(Question(model_id="roberta-base"), "simple", costs=False), x="money")

    assert list(range(1, 257)) == info.xs
    assert "LoRA rank r (log scale)" == info.axis.title
    assert all(point.x == point.r for line in info.lines for point in line.points)
    assert {"forecast", "published"} == {row["kind"] for row in info.rows}


def test_the_nearest_study_of_the_model_hangs_at_its_highest_rank_on_the_median(api):
    tradeoff = api.tradeoffs.of(QWEN, quality="percent")
    info = figures.hero_info(tradeoff)

    line = info.lines[0]
    assert "Qwen3-8B (Tinker SFT sweep)" == line.label
    median = {rank.r: rank.median for rank in tradeoff.forecast.ranks}
    assert median[line.points[-1].r] == line.points[-1].y
    # 0.5458 and 0.5382 nats at r = 4 and 64, as published: 100 ln(0.5458 / 0.5382) = 1.40 % apart.
    assert [4, 16, 64, 128] == [point.r for point in line.points] or [4, 16, 64] == [p.r for p in line.points]
    by_rank = {point.r: point.y for point in line.points}
    assert 1.40 == pytest.approx(by_rank[4] - by_rank[64], abs=0.01)


def test_a_published_line_of_another_moe_scheme_lies_at_its_own_parameters(api):
    """Tinker's r = 32 on Qwen3-30B-A3B is 32 · 15,440,256 parameters: Unsloth's, of 40,157,184 a rank, at r = 12.3."""
    question = Question(model_id="Qwen/Qwen3-30B-A3B")
    tradeoff = api.tradeoffs.of(question, quality="percent")

    line = next(line for line in figures.hero_info(tradeoff).lines if "Tinker" in line.label)
    by_rank = next(line for line in figures.hero_info(tradeoff, x="rank").lines if "Tinker" in line.label)

    one = {rank.r: rank.adapter_bytes / 1e6 for rank in tradeoff.estimate.ranks}
    for point in line.points:
        r = point.r * 15_440_256 / 40_157_184
        assert one[1] * r == pytest.approx(point.x, rel=0.01)
        assert max(1, round(r)) == point.chosen
    assert "another MoE scheme" in line.points[0].text
    assert "Qwen3-30B-A3B (Tinker SFT sweep, experts share a factor)" == line.label
    assert [point.r for point in line.points] == [point.x for point in by_rank.points]


def test_own_runs_are_filled_and_published_ones_open(api):
    finished(api, {4: 2.0, 16: 1.5}, seeds=(0, 1))
    info = figures.hero_info(api.tradeoffs.of(Question(model_id="embedded"), quality="percent"))
    drawn = figures.hero_figure(info).data

    own = next(trace for trace in drawn if trace.name.startswith("your runs"))
    study = next(trace for trace in drawn if "Tinker" in (trace.name or ""))
    assert "circle" == own.marker.symbol and study.marker.symbol.endswith("-open")
    assert own.error_y.visible and own.customdata[0][1]
    assert "markers" == own.mode


def test_a_newest_sweep_with_one_rank_or_ranks_beyond_the_chart_leaves_the_older_one_drawn(api):
    for losses in ({4: 2.0, 16: 1.5}, {64: 1.4}, {16: 1.5, 512: 1.3}):
        finished(api, losses)

    info = figures.hero_info(api.tradeoffs.of(Question(model_id="embedded"), quality="percent"))

    assert [[4, 16]] == [[point.r for point in line.points] for line in info.lines if line.kind == "runs"]
    assert {"forecast", "published", "runs"} == {row["kind"] for row in info.rows if row["value"] != ""}
