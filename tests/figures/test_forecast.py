"""The figure of a forecast: bands, an extrapolated part that looks different, and one's own runs."""

import pytest

from rankviz.core.forecast.bands import GRID
from rankviz.core.forecast.bent import bent_forecast
from rankviz.core.forecast.words import forecast
from rankviz.figures import forecast_figure, forecast_info
from rankviz.figures.style import ESTIMATED, MEASURED, rgba
from tests.support.runs.forecasts import HELD, band, bands, measured


def published(**more):
    return forecast(bands(), band(**more), "points")


def own(**more):
    return bent_forecast("s1", measured({4: 1.4, 64: 1.0}, **more), HELD)


def traces(forecast):
    return {trace.name: trace for trace in forecast_figure(forecast_info(forecast)).data}


def test_a_forecast_is_two_bands_and_a_line_in_the_colour_of_estimates():
    drawn = traces(published())

    assert ["80 % band", "50 % band", "median"] == list(drawn)
    assert ESTIMATED == drawn["median"].line.color
    assert drawn["80 % band"].fillcolor.startswith(rgba(ESTIMATED, 1)[:-2])


def test_the_extrapolated_part_is_hatched_and_dotted():
    drawn = traces(published(lines_at_rank={8: 1, 16: 1, 32: 1, 64: 1}))

    assert "/" == drawn["80 % band, extrapolated"].fillpattern.shape
    assert None is drawn["80 % band"].fillpattern.shape
    assert ("dot", "solid") == (drawn["median, extrapolated"].line.dash, drawn["median"].line.dash)
    assert (8, 16, 32, 64) == drawn["median"].x


def test_a_gap_between_published_ranks_is_hatched_too():
    lines = {1: 1, 8: 1, 16: 1, 64: 1, 128: 1, 256: 1}
    drawn = forecast_figure(forecast_info(published(lines_at_rank=lines))).data

    assert [((1, 2, 4, 8), "dot"), ((8, 16), "solid"), ((16, 32, 64), "dot"), ((64, 128, 256), "solid")] == [
        (trace.x, trace.line.dash) for trace in drawn if trace.name.startswith("median")
    ]
    shown = sorted((trace.legendrank, trace.name) for trace in drawn if trace.showlegend)
    assert ["50 % band", "80 % band", "median", "80 % band, extrapolated"] == [name for _, name in shown]


def test_own_runs_are_markers_with_error_bars_where_a_spread_is_known():
    markers = traces(own(sd=0.05, runs=3))["measured"]

    assert (MEASURED, (4, 64), (1.4, 1.0)) == (markers.marker.color, markers.x, markers.y)
    assert markers.error_y.visible
    assert pytest.approx((0.0641, 0.0641), abs=1e-4) == markers.error_y.array


def test_without_a_repeat_there_is_a_line_and_no_band():
    assert ["median", "measured"] == list(traces(own()))


def test_one_run_has_no_error_bar_and_says_so():
    markers = traces(own())["measured"]

    assert not markers.error_y.visible
    assert "one run" in markers.hovertext[0]


def test_the_unit_is_in_the_title_of_the_axis():
    assert "shortfall from r = 128, points (lower is better)" == forecast_info(published()).y_title
    assert "nats per token" in forecast_info(own()).y_title


def test_the_rows_hold_every_number_that_is_drawn():
    rows = forecast_info(own()).rows

    assert [4, 8, 16, 32, 64, 4, 64] == [row["r"] for row in rows]
    assert [1.4, 1.0] == [row["measured"] for row in rows if row["kind"] == "measured"]
    assert list(GRID) == [row["r"] for row in forecast_info(published()).rows]


def test_no_forecast_gives_the_axes_and_a_sentence():
    figure = forecast_figure(forecast_info(None))

    assert not figure.data
    assert "no forecast yet" in figure.layout.annotations[0].text.replace("<br>", " ")
