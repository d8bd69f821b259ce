"""The fit of published lines, its left-out scores and its tables, on small lines by hand."""

from dataclasses import replace

import numpy as np
import pytest

from rankviz.catalog.forecast import lines_hash, load_bands, read_forecast
from rankviz.catalog.studies import load_evidence
from rankviz.core.forecast.curve import GRID, left
from rankviz.core.forecast.lines import RankLine, rank_lines
from rankviz.paths import ASSETS
from rankviz.worker.assets.forecast import draws
from rankviz.worker.assets.forecast.__main__ import main
from rankviz.worker.assets.forecast.families import SCORES, score_description
from rankviz.worker.assets.forecast.fit import fit
from rankviz.worker.assets.forecast.left_out import known_error, left_out
from rankviz.worker.assets.forecast.model import data_of
from rankviz.worker.assets.forecast.rule import Rule, fitted_rule, gaps, rule_gap
from rankviz.worker.assets.forecast.scoring import Scored, crps, place_of, summary
from rankviz.worker.assets.forecast.tables import tabulated
from rankviz.worker.assets.forecast.validation import OWN_DATA_SET

RANKS = (4, 16, 64)


def line(gain, *, name="a", kind="simple", metric="score", ranks=RANKS, **more):
    """Exactly on a curve of this gain, but for the noise of its publication."""
    noise = np.random.default_rng(sum(map(ord, name))).normal(0, 0.1, len(ranks))
    return RankLine(
        **{
            "metric": metric,
            "kind": "loss" if metric == "loss" else kind,
            "publication": name,
            "group": name,
            "study_id": name,
            "base_model": name,
            "task": "task",
            "ranks": ranks,
            "values": tuple(50 - gain * left(r, 0.3) + each for r, each in zip(ranks, noise, strict=True)),
            "standard_errors": (0.2,) * len(ranks),
            "parameters": 10**9,
            "base": True,
            **more,
        }
    )


SIMPLE = [line(1.0, name=name) for name in "abcd"]
HARD = [line(8.0, name=name, kind="shift") for name in "efgh"]
LOSSES = [line(2.0, name=name, metric="loss") for name in "ijk"]


def test_the_arrays_of_the_worker_have_the_curve_of_the_core():
    ranks = np.array(GRID, dtype=float)

    assert [left(r, 0.4) for r in GRID] == pytest.approx(draws.left(ranks, np.array(0.4)).tolist())


def test_the_crps_of_two_draws_by_hand():
    # E|X - y| = (1 + 3) / 2, E|X - X'| = 2 / 2
    assert 1.5 == crps(np.array([1.0, 3.0]), 0.0)
    assert 0.0 == crps(np.array([2.0, 2.0]), 2.0)


def test_a_place_among_draws_counts_equal_ones_half():
    assert 0.5 == place_of(np.array([0.0, 1.0, 2.0]), 1.0)


def scored(publication, place):
    return Scored(
        publication, "simple", "s", 4, gap=1.0, place=place, crps=1.0, median_error=1.0, crps_rule=2.0, crps_curve=3.0
    )


def test_a_summary_counts_over_points_and_over_publications():
    row = summary("simple", [*(scored("a", 0.5) for _ in range(3)), scored("b", 0.99)])

    assert (2, 4) == (row["publications"], row["points"])
    assert (0.75, 0.5) == (row["inside_80"], row["inside_80_by_publication"])


def test_the_rule_of_thumb_is_half_a_point_an_octave_below_32():
    assert 1.5 == rule_gap(4, 64)
    assert 0.0 == rule_gap(32, 256)


def test_the_rule_of_thumb_has_its_errors_on_other_lines_as_a_band_every_publication_weighing_the_same():
    # The rule says 1.5 at r = 4 and 0.5 at r = 16. "a" is 1 short of it at both, "b" has 3 more at its only rank.
    a = replace(SIMPLE[0], publication="a", values=(49.5, 50.5, 50.0))
    b = replace(SIMPLE[0], publication="b", ranks=(4, 64), values=(45.5, 50.0))

    rule = fitted_rule([a, b])

    assert [-1.0, -1.0, 3.0] == rule.errors.tolist()
    assert [0.125, 0.375, 0.75] == rule.levels.tolist()


def test_the_rule_of_thumb_is_nothing_at_the_reference_and_turns_round_above_it():
    rule = Rule(slope=2.0, errors=np.array([-1.0, 1.0]), levels=np.array([0.25, 0.75]))

    assert [2.0, 4.0] == rule.shortfall(4, 64, 2).tolist()
    assert [0.0, 0.0] == rule.shortfall(64, 64, 2).tolist()
    assert [-2.0, -4.0] == rule.shortfall(64, 4, 2).tolist()


def test_the_slope_of_the_rule_is_fitted_to_losses_alone():
    assert 1.0 == fitted_rule(SIMPLE).slope
    assert 3.0 == fitted_rule([line(1.0, metric="loss", ranks=(4, 64), values=(45.5, 50.0))]).slope


def test_half_of_a_band_is_the_curve_and_half_the_rule():
    one = np.ones(4)
    curve = draws.Curves(gain=0 * one, bend=0.3 * one, trend=0 * one, noise=0 * one)
    far = Rule(slope=0.0, errors=np.array([8.0, 8.0]), levels=np.array([0.25, 0.75]))

    table = draws.quantiles(np.random.default_rng(0), curve, far)

    assert [0.0, 8.0] == [table["25"][0], table["75"][0]]


def test_the_median_never_says_that_a_lower_rank_is_better():
    one = np.ones(4)
    curve = draws.Curves(gain=0 * one, bend=0.3 * one, trend=0 * one, noise=0 * one)
    below = Rule(slope=0.0, errors=np.array([-8.0, -8.0]), levels=np.array([0.25, 0.75]))

    table = draws.quantiles(np.random.default_rng(0), curve, below)

    # The middle of the draws is -4 below the reference rank and 4 above it.
    assert [0.0] * len(GRID) == table["50"]
    assert [-8.0, 8.0] == [table["25"][0], table["75"][-1]]


def test_a_left_out_point_is_scored_against_both_halves_and_the_whole():
    points = list(left_out(SCORES, SIMPLE, seed=1))

    assert all(point.crps <= max(point.crps_rule, point.crps_curve) for point in points)
    assert all(point.crps_rule != point.crps_curve for point in points)


def test_a_gap_is_to_the_highest_rank_whatever_is_best():
    assert [(4, -2.0), (16, 1.0)] == gaps(replace(SIMPLE[0], values=(52.0, 49.0, 50.0)))


def test_the_fit_finds_the_gains_of_two_kinds():
    lines = [*SIMPLE, *HARD]

    parameters, _ = fit(data_of(lines, SCORES.descriptions(lines)), np.random.default_rng(0))

    simple, shift = (
        float(np.exp(np.median(parameters.effects @ np.array(score_description(kind))))) for kind in ("simple", "shift")
    )
    assert 0.6 < simple < 1.7
    assert 5.0 < shift < 12.0


@pytest.fixture(scope="module")
def rows():
    return tabulated([*SIMPLE, *HARD, *LOSSES])["bands"]


def test_the_table_has_every_kind_and_medians_that_never_rise_with_rank(rows):
    assert ["simple", "instruct", "math-code", "shift", "any"] == [row["kind"] for row in rows[:5]]
    for row in rows:
        median = row["quantiles"]["50"]
        assert median == sorted(median, reverse=True)
        assert 0.0 == median[GRID.index(128)]


def test_without_a_study_the_band_is_another(rows):
    less = tabulated([*SIMPLE, HARD[0], *LOSSES])["bands"]

    shift = [next(row for row in each if row["kind"] == "shift") for each in (rows, less)]
    assert [4, 1] == [row["lines"] for row in shift]
    assert shift[0]["quantiles"]["50"] != shift[1]["quantiles"]["50"]


def test_each_publication_is_forecast_from_the_others_alone():
    seen = [replace(each, values=(20.0, 40.0, 50.0)) if each.publication == "a" else each for each in SIMPLE]

    lowest = {point.publication: point for point in left_out(SCORES, seen, seed=1) if point.rank == 4}

    assert set("abcd") == set(lowest)
    assert 30.0 == lowest["a"].gap
    assert not lowest["a"].inside(80)


def test_a_left_out_line_brings_the_error_of_its_test_set_and_never_one_that_its_results_gave():
    own = replace(SIMPLE[0], standard_errors=(0.3, 0.5, 0.7))
    measured = replace(own, errors_published=True)
    others = [
        replace(SIMPLE[1], standard_errors=(error,) * 3, publication=name) for error, name in ((1, "b"), (3, "c"))
    ]

    assert [0.5, 2.0] == [known_error(line, [*others, *HARD]) for line in (own, measured)]


def test_a_study_that_is_to_be_left_out_must_have_a_line(capsys):
    with pytest.raises(SystemExit):
        main(["--without", "lora_gpt4"])

    assert "no line is of study lora_gpt4; the studies are adalora_glue," in capsys.readouterr().err


def test_the_shipped_forecast_is_of_the_shipped_evidence():
    assert lines_hash(rank_lines(load_evidence(ASSETS))) == read_forecast(ASSETS)["lines"], "run `make forecast`"


def test_the_shipped_forecast_has_a_record_of_every_kind():
    shipped = load_bands(ASSETS)

    assert {band.kind for band in shipped.bands} == set(shipped.left_out)
    assert OWN_DATA_SET == read_forecast(ASSETS)["same_data_set"]["kind"]


def test_the_band_is_closer_than_the_curve_alone_for_scores_and_losses():
    rows = {row["kind"]: row for row in read_forecast(ASSETS)["left_out"]}

    assert all(rows[kind]["crps"] < rows[kind]["crps_curve"] for kind in ("any", "loss"))


def test_only_instruction_tuning_and_shifted_domains_are_validated():
    validated = {kind for kind, row in load_bands(ASSETS).left_out.items() if row.validated}

    assert {"instruct", "shift"} == validated


def test_a_changed_value_makes_a_forecast_stale():
    changed = replace(SIMPLE[0], values=(50.0, 50.0, 51.0))

    assert lines_hash(SIMPLE) == lines_hash(list(SIMPLE)) != lines_hash([changed, *SIMPLE[1:]])
