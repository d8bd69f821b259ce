"""The fit of published lines, its left-out scores and its tables, on small lines by hand."""

from dataclasses import replace

import numpy as np
import pytest

from rankviz.catalog.forecast import lines_hash, load_bands, read_forecast
from rankviz.catalog.studies import load_evidence
from rankviz.core.forecast.curve import GRID, left
from rankviz.core.forecast.lines import RankLine, rank_lines
from rankviz.core.runs.fidelity import Case
from rankviz.paths import ASSETS
from rankviz.worker.assets.forecast import draws
from rankviz.worker.assets.forecast.bending import bent_points, bent_summary
from rankviz.worker.assets.forecast.families import SCORES, score_description
from rankviz.worker.assets.forecast.fit import fit
from rankviz.worker.assets.forecast.left_out import gaps, left_out, rule_gap
from rankviz.worker.assets.forecast.model import data_of
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
    return Scored(publication, "simple", "s", 4, gap=1.0, place=place, crps=1.0, median_error=1.0, crps_rule=2.0)


def test_a_summary_counts_over_points_and_over_publications():
    row = summary("simple", [*(scored("a", 0.5) for _ in range(3)), scored("b", 0.99)])

    assert (2, 4) == (row["publications"], row["points"])
    assert (0.75, 0.5) == (row["inside_80"], row["inside_80_by_publication"])


def test_the_rule_of_thumb_is_half_a_point_an_octave_below_32():
    assert 1.5 == rule_gap(4, 64)
    assert 0.0 == rule_gap(32, 256)


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


def case(**losses) -> Case:
    independent = {int(r[1:]): loss for r, loss in losses.items()}
    return Case(
        name="toy-0",
        made="2026-01-01",
        base="toy",
        data="toy",
        alpha="fixed",
        steps=1,
        seed=0,
        learning_rate=1e-3,
        precision="fp32",
        differences={r: 0.5 for r in independent if r != max(independent)},
        independent=independent,
        picked=4,
        regret=0.0,
        regret_of_cut=0.0,
        regret_of_highest=0.0,
    )


def test_runs_between_the_ends_are_compared_with_the_band_the_line_and_the_truncated_adapter():
    points = bent_points([case(r2=9.0, r4=1.4, r16=1.2, r64=1.0)], gain_percent=3.0, noise_nats=0.02)

    (point,) = points
    assert (16, 1.2, 1.7) == (point.rank, point.line, point.truncated)
    assert point.inside
    summary = bent_summary(points)
    assert (1, 1.0, 0.5) == (summary["runs"], summary["inside_80"], summary["truncated_median_error"])


def test_a_run_far_from_the_curve_is_outside():
    (point,) = bent_points([case(r4=1.4, r16=2.2, r64=1.0)], gain_percent=3.0, noise_nats=0.02)

    assert not point.inside


def test_a_case_at_alpha_r_or_without_r_4_is_not_counted():
    cases = [case(r4=1.4, r16=1.2, r64=1.0)._replace(alpha="r"), case(r2=1.4, r16=1.2, r64=1.0)]

    assert [] == bent_points(cases, gain_percent=3.0, noise_nats=0.02)


def test_the_shipped_forecast_is_of_the_shipped_evidence():
    assert lines_hash(rank_lines(load_evidence(ASSETS))) == read_forecast(ASSETS)["lines"], "run `make forecast`"


def test_the_shipped_forecast_has_a_record_of_every_kind():
    shipped = load_bands(ASSETS)

    assert {band.kind for band in shipped.bands} == set(shipped.left_out)
    assert 22 == shipped.bent_runs and 0.75 <= shipped.bent_inside_80
    assert OWN_DATA_SET == read_forecast(ASSETS)["same_data_set"]["kind"]


def test_the_bent_forecast_is_no_worse_than_a_straight_line():
    bent = read_forecast(ASSETS)["bent"]

    assert bent["bent_mean_error"] <= bent["line_mean_error"]
    assert bent["bent_median_error"] == pytest.approx(bent["line_median_error"], abs=0.0005)
    assert bent["bent_mean_error"] < bent["truncated_mean_error"]


def test_a_changed_value_makes_a_forecast_stale():
    changed = replace(SIMPLE[0], values=(50.0, 50.0, 51.0))

    assert lines_hash(SIMPLE) == lines_hash(list(SIMPLE)) != lines_hash([changed, *SIMPLE[1:]])
