"""The traces of a forecast."""

from rankviz.core.forecast.bands import forecast
from rankviz.figures.forecast import bands
from rankviz.figures.style import ESTIMATED, rgba
from tests.support.runs import forecasts


def test_a_forecast_is_two_bands_and_a_line_in_the_colour_of_estimates():
    outer, inner, median = bands(forecast(forecasts.bands(), "score", "any", [8, 16]).ranks, unit="points")

    assert ["80 % band", "50 % band", "median"] == [trace["name"] for trace in (outer, inner, median)]
    assert ([8, 16, 16, 8], [4.5, 4.0, 0.0, 0.5]) == (outer["x"], outer["y"])
    assert [3.5, 3.0, 1.0, 1.5] == inner["y"]
    assert (ESTIMATED, [2.5, 2.0]) == (median["line"]["color"], median["y"])
    assert outer["fillcolor"].startswith(rgba(ESTIMATED, 1)[:-2])
    assert "median 2.5 points" in median["hovertext"][0]


def test_nothing_is_drawn_of_no_forecast():
    assert [] == bands(())
