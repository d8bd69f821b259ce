"""Loss by step."""

from rankviz.figures import TrainingInfo, training_figure, training_info
from rankviz.figures.training import LossCurve
from tests.figures.support import named
from tests.support.finished_runs import plain_sweep


def test_the_info_has_a_curve_per_run_that_says_what_differs():
    info = training_info([plain_sweep({4: 2.0, 16: 1.5}, seeds=(0, 1))])

    first = info.curves[0]
    assert ("r = 4, seed 0", [1, 2], [5.0, 4.0], 2.0) == (first.label, first.steps, first.losses, first.final)
    assert (2, 8) == (info.max_steps, len(info.rows))
    assert "Measured: SmolLM2-135M-Instruct on phonemes, r = 4, 16." == info.source


def test_only_the_named_runs_have_curves():
    sweep = plain_sweep({4: 2.0, 16: 1.5})

    assert [16] == [curve.r for curve in training_info([sweep], run_ids=[sweep.runs[1].run_id]).curves]
    assert [] == training_info([sweep], run_ids=[]).curves


def test_a_loss_curve_ends_in_its_held_out_loss():
    curve = LossCurve(run_id="a", label="r = 4", r=4, steps=[1, 2], losses=[3.0, 2.5], final=2.75)

    figure = training_figure(TrainingInfo([curve], max_steps=2))

    assert (3.0, 2.5) == named(figure, "r = 4").y
    assert (2.75,) == named(figure, "held-out loss").y
    assert ("a", "a") == named(figure, "r = 4").customdata


def test_many_loss_curves_are_named_by_rank_once_each():
    curves = [
        LossCurve(run_id=f"{r}-{seed}", label=f"r = {r}, seed {seed}", r=r, steps=[1], losses=[2.0])
        for seed in range(3)
        for r in (2, 8, 32)
    ]

    def legend(curves):
        return [line.name for line in training_figure(TrainingInfo(curves)).data if line.showlegend is not False]

    assert ["r = 2", "r = 8", "r = 32"] == legend(curves)
    assert [curve.label for curve in curves[:8]] == legend(curves[:8])
    assert "r = 8, seed 2" in training_figure(TrainingInfo(curves)).data[7].hovertemplate
