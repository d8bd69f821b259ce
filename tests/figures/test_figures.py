"""Figures draw what they are given: looked at as Plotly's own data, not as pixels."""

from rankviz.figures import (
    ESTIMATED,
    MEASURED,
    LossCurve,
    MemoryBar,
    PlottedPoint,
    PointGroup,
    loss_figure,
    memory_figure,
    module_figure,
    tradeoff_figure,
)
from rankviz.figures.style import rgba

POINTS = (
    PlottedPoint(run_id="a", r=4, x=100.0, y=2.0, low=1.9, high=2.1, x_text="100 B", detail="lr 0.001"),
    PlottedPoint(run_id="b", r=16, x=400.0, y=1.5, x_text="400 B", detail="lr 0.001"),
)


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_measured_points_are_filled_vermilion_markers_labelled_by_rank():
    group = PointGroup(label="a sweep", points=POINTS)

    figure = tradeoff_figure([group], x_title="bytes", y_title="loss")

    trace = named(figure, "a sweep")
    assert (100.0, 400.0) == trace.x
    assert ["r = 4", "r = 16"] == [text.strip() for text in trace.text]
    assert ("a", "b") == trace.customdata
    assert MEASURED == trace.marker.color
    assert "circle" == trace.marker.symbol


def test_error_bars_stand_only_where_a_spread_is_known():
    figure = tradeoff_figure([PointGroup(label="a sweep", points=POINTS)], x_title="bytes", y_title="loss")

    bars = named(figure, "a sweep").error_y
    assert [0.1, 0] == [round(up, 9) for up in bars.array]
    assert [0.1, 0] == [round(down, 9) for down in bars.arrayminus]


def test_the_front_joins_points_of_one_group_only():
    groups = [
        PointGroup(label="one", points=POINTS, front=(0, 1)),
        PointGroup(label="two", points=POINTS, front=(0, 1)),
    ]

    figure = tradeoff_figure(groups, x_title="bytes", y_title="loss")

    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert 2 == len(lines)
    assert all((100.0, 400.0) == line.x for line in lines)
    assert named(figure, "one").marker.symbol != named(figure, "two").marker.symbol


def test_the_smallest_rank_within_noise_is_ringed():
    figure = tradeoff_figure(
        [PointGroup(label="a sweep", points=POINTS, smallest_good=1)], x_title="bytes", y_title="loss"
    )

    ring = named(figure, "smallest rank within noise of the best")
    assert (400.0,) == ring.x
    assert (1.5,) == ring.y


def test_no_data_gives_the_same_axes_and_a_sentence():
    figure = tradeoff_figure([], x_title="bytes", y_title="loss", empty="Nothing yet.")

    assert "bytes" == figure.layout.xaxis.title.text
    assert ["Nothing yet."] == [note.text for note in figure.layout.annotations]


def test_memory_bars_add_up_to_their_components_in_gib_with_the_band_above():
    gib = 2**30
    bars = [MemoryBar(r=8, components={"base weights": 4 * gib, "adapter": gib}, low=5 * gib, high=7 * gib)]

    figure = memory_figure(bars, chosen_r=8, usable_bytes=22 * gib, gpu_name="L4")

    assert (4.0,) == named(figure, "base weights").y
    assert (1.0,) == named(figure, "adapter").y
    band = named(figure, "range on the card")
    assert (6.0,) == band.y
    assert (1.0,) == band.error_y.array
    assert 22.0 == figure.layout.shapes[0].y0
    assert ("<b>8</b>",) == named(figure, "adapter").x


def test_a_module_that_a_block_lacks_is_an_empty_cell():
    figure = module_figure(["q_proj", "down_proj"], ["0", "1"], [[10, 0], [5, 5]], r=4)

    assert ((10, None), (5, 5)) == tuple(tuple(row) for row in figure.data[0].z)
    assert rgba(ESTIMATED, 0.95) == figure.data[0].colorscale[1][1]


def test_a_loss_curve_ends_in_its_held_out_loss():
    curve = LossCurve(run_id="a", label="r = 4", r=4, steps=[1, 2], losses=[3.0, 2.5], final=2.75)

    figure = loss_figure([curve], max_steps=2)

    assert (3.0, 2.5) == named(figure, "r = 4").y
    assert (2.75,) == named(figure, "held-out loss").y
    assert ("a", "a") == named(figure, "r = 4").customdata


def test_every_figure_is_transparent_and_has_a_height():
    figures = [
        tradeoff_figure([], x_title="x", y_title="y"),
        memory_figure([], chosen_r=8),
        module_figure([], [], [], r=8),
        loss_figure([], max_steps=1),
    ]

    assert {"rgba(0,0,0,0)"} == {figure.layout.paper_bgcolor for figure in figures}
    assert all(figure.layout.height for figure in figures)


def test_many_loss_curves_are_named_by_rank_once_each():
    curves = [
        LossCurve(run_id=f"{r}-{seed}", label=f"r = {r}, seed {seed}", r=r, steps=[1], losses=[2.0])
        for seed in range(3)
        for r in (2, 8, 32)
    ]

    def named(curves):
        return [line.name for line in loss_figure(curves, max_steps=1).data if line.showlegend is not False]

    assert ["r = 2", "r = 8", "r = 32"] == named(curves)
    assert [curve.label for curve in curves[:8]] == named(curves[:8])
    assert "r = 8, seed 2" in loss_figure(curves, max_steps=1).data[7].hovertemplate
