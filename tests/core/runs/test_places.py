"""Where runs are, in English."""

import pytest

from rankviz.core.runs.events import AttemptPlaced, RunCancelled, RunRequeued, RunStarted
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.words import Place, all_in_words, place_of, with_attempt
from tests.support.runs import questions

ASKED = RunRecord(request=questions.run(run_id="r"))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place("ray", "node-0"), "Ray cluster, node-0"),
        (Place("hf-jobs", "l4x1"), "Hugging Face Jobs, l4x1"),
        (Place("slurm", "node-1"), "Slurm cluster, node-1"),
        (Place("local", "GPU 1"), "this machine, GPU 1"),
        (Place("local", "this machine"), "this machine"),
        (Place("slurm"), "Slurm cluster"),
        (Place("moon", "crater"), "moon, crater"),
        (Place(), ""),
    ],
)
def test_a_place_is_an_engine_and_where_it_is_there(place, words):
    assert words == place.in_words


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([Place("slurm"), Place("slurm")], "Slurm cluster"),
        ([Place("hf-jobs", "l4x1")] * 2, "Hugging Face Jobs (l4x1)"),
        ([Place("local", "this machine"), Place("ray")], "this machine and Ray cluster"),
        ([Place("ray", f"n{n}") for n in range(3)], "Ray cluster (n0, n1 and n2)"),
        ([Place("ray", f"n{n}") for n in range(9)], "Ray cluster (n0, n1, n2 and 6 more)"),
        (
            [Place("local", "GPU 0"), Place("slurm", "n1"), Place("ray")],
            "this machine (GPU 0), Slurm cluster (n1) and Ray cluster",
        ),
        ([Place(), Place()], ""),
    ],
)
def test_several_places_are_named_engine_by_engine(places, words):
    assert words == all_in_words(places)


def test_a_run_is_where_its_last_attempt_began():
    """Moved to a Slurm cluster, and cancelled before it began there."""
    on_ray = [AttemptPlaced(time=1.0, attempt=1, engine="ray", where="node-1"), RunStarted(time=2.0, environment={})]
    moved = [RunCancelled(time=3.0), RunRequeued(time=4.0), AttemptPlaced(time=5.0, attempt=2, engine="slurm")]
    waits, ended = ASKED.after_all([*on_ray, *moved]), ASKED.after_all([*on_ray, *moved, RunCancelled(time=6.0)])

    assert (Place("slurm"), Place("ray", "node-1")) == (place_of(waits), place_of(ended))
    assert "Slurm cluster, attempt 2" == with_attempt(place_of(waits), waits)
