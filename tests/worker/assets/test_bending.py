"""Independent runs beside the bent band: what is compared, and how a setting is left out."""

from dataclasses import replace

import pytest

from rankviz.core.forecast.mixture import Shape
from rankviz.core.runs.fidelity import Case
from rankviz.worker.assets.forecast.bending import bent_points, bent_summary, setting_left_out


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


def test_the_interval_score_is_the_width_and_ten_times_what_a_run_lies_outside():
    (point,) = bent_points([case(r4=1.4, r16=2.2, r64=1.0)], gain_percent=3.0, noise_nats=0.02)

    known = replace(point, low_80=1.0, high_80=1.5)
    assert [0.5, 7.5, 1.5] == pytest.approx([replace(known, loss=loss).interval_score for loss in (1.2, 2.2, 0.9)])


def test_the_settings_of_a_bent_band_are_chosen_without_the_setting_that_is_forecast():
    narrow, wide = (Shape(bends=((0.01, 1.0),), noise_factors=((factor, 1.0),)) for factor in (1.0, 8.0))
    straight, far = case(r4=1.4, r16=1.2, r64=1.0), case(r4=1.4, r16=1.9, r64=1.0)._replace(name="far-0")

    held = {p.setting: p for p in setting_left_out([straight, far], 3.0, 0.02, [narrow, wide])}

    # "far" needs the wide band, which therefore holds "toy"; "toy" needs the narrow one, which misses "far".
    assert not held["far"].inside
    assert held["toy"].high_80 - held["toy"].low_80 > 4 * (held["far"].high_80 - held["far"].low_80)


def test_a_case_at_alpha_r_or_without_r_4_is_not_counted():
    cases = [case(r4=1.4, r16=1.2, r64=1.0)._replace(alpha="r"), case(r2=1.4, r16=1.2, r64=1.0)]

    assert [] == bent_points(cases, gain_percent=3.0, noise_nats=0.02)
