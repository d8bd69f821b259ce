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
    tradeoff = api.studies.tradeoff(QWEN)
    by_rank = {rank.r: rank for rank in tradeoff.estimate.ranks}

    assert [by_rank[r].adapter_bytes / 1e6 for r in range(1, 257)] == figures.hero_info(tradeoff).xs
    money = figures.hero_info(tradeoff, x="money").xs
    assert by_rank[16].cost.usd.expected == money[15]


def test_a_published_line_of_another_moe_scheme_lies_at_its_own_parameters(api):
    """Tinker's r = 32 on Qwen3-30B-A3B is 32 · 15,440,256 parameters: Unsloth's, of 40,157,184 a rank, at r = 12.3."""
    question = Question(model_id="Qwen/Qwen3-30B-A3B")
    tradeoff = api.studies.tradeoff(question, quality="percent")

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


def test_a_newest_sweep_with_one_rank_or_ranks_beyond_the_chart_leaves_the_older_one_drawn(api):
    for losses in ({4: 2.0, 16: 1.5}, {64: 1.4}, {16: 1.5, 512: 1.3}):
        finished(api, losses)

    info = figures.hero_info(api.studies.tradeoff(Question(model_id="embedded"), quality="percent"))

    assert [[4, 16]] == [[point.r for point in line.points] for line in info.lines if line.kind == "runs"]
    assert {"forecast", "published", "runs"} == {row["kind"] for row in info.rows if row["value"] != ""}
