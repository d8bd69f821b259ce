"""Published points as lines, what stands near, and what is counted, worked out by hand."""

import pytest

from rankviz.core.studies.lines import FACETS, drawn_lines, kept_by_rank, nearest
from tests.support.runs.studies_toy import base, evidence, point, study, subject

SWEEP = [point(4, 1.02), point(16, 1.004), point(64, 1.0)]


@pytest.mark.parametrize(
    "change",
    [
        {"task": "another"},
        {"target_modules": "q,k,v,o"},
        {"duration": "2 epochs"},
        {"table": "Table 2"},
        {"base_model": "toy/Large-70B"},
    ],
)
def test_a_line_is_never_joined_across(change):
    models = [base(), base("toy/Large-70B")]

    result = evidence([point(4, 1.0), point(16, 1.0, **change)], models=models).lines

    assert [(4,), (16,)] == [line.ranks for line in result]


def test_what_the_base_kept_at_the_smallest_and_the_largest_rank():
    def kept(duration, small, large):
        more = {"role": "forgetting", "higher_is_better": True, "duration": duration}
        return [point(16, small, **more), point(256, large, **more)]

    result = kept_by_rank(evidence([*kept("1", 0.6, 0.5), *kept("2", 0.4, 0.5), *kept("3", 0.7, 0.2)]), subject())

    assert (2, 3) == result[:2]
    assert "3" == result.line.first.duration


def near_pairs():
    others = [study("size", task_kind="simple"), study("nothing", task_kind="simple")]
    studies = [study(), study("family"), *others]
    models = [
        base(),
        base("toy/Other-1B", model_id=None),
        base("other/Mid-2B", model_id=None, family="Other", parameters=2 * 10**9),
        base("other/Big-50B", model_id=None, family="Other", parameters=5 * 10**10),
    ]
    of = {"family": "toy/Other-1B", "size": "other/Mid-2B", "nothing": "other/Big-50B"}
    points = [*SWEEP]
    for study_id, name in of.items():
        points += [point(r, 1.0, study_id=study_id, base_model=name) for r in (4, 16)]
    return evidence(points[::-1], studies, models)


def test_the_same_model_is_nearer_than_its_family_than_a_similar_size_than_the_same_kind_of_task():
    result = nearest(drawn_lines(near_pairs(), ("lora",), FACETS), subject())

    assert [
        ("tuned", "the same model, the same kind of task"),
        ("family", "the same family (Toy), a similar size (1.00 B), the same kind of task"),
        ("size", "a similar size (2.00 B)"),
        ("nothing", "no nearer study is published"),
    ] == [(near.line.study.study_id, near.in_words) for near in result]
