"""A figure as a file."""

import pytest

from rankviz.errors import InvalidSettingError
from rankviz.figures import plot_file, training_figure, write_figure
from rankviz.figures.style import image_problem
from rankviz.figures.training import LossCurve, TrainingInfo

FIGURE = training_figure(TrainingInfo([LossCurve("a", "r = 4", 4, [1, 2], [3.0, 2.5])], max_steps=2))


def test_html_holds_plotly_the_title_and_the_source_and_asks_nothing_of_a_network(tmp_path):
    path = write_figure(FIGURE, tmp_path / "loss.html", title="Loss of <b>", source="Measured here.")

    page = path.read_text(encoding="utf-8")
    assert "Measured here." in page
    assert "Loss of &lt;b&gt;" in page.replace("\\u0026", "&").replace("\\u003c", "<").replace("\\u003e", ">")
    assert len(page) > 1_000_000  # plotly.js itself
    assert '<script src="' not in page and 'src="https' not in page


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
