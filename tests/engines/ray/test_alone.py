"""For how long a node that has failed gets no job."""

from rankviz.engines.ray.alone import LeftAlone


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lengths(alone: LeftAlone, clock: Clock, *times: float) -> list[float]:
    """Of failures of one node at these seconds."""
    found = []
    for clock.now in times:
        alone.add("a", "Its disk is full.")
        found.append(alone.now()["a"].seconds)
    return found


def test_a_node_that_has_failed_is_left_alone_for_thirty_seconds_and_others_are_not():
    clock = Clock()
    alone = LeftAlone(30.0, clock)

    alone.add("a", "Its disk is full.")

    assert {"a": "Its disk is full."} == {node_id: failure.why for node_id, failure in alone.now().items()}
    clock.now = 30.0
    assert {} == alone.now()


def test_each_further_failure_doubles_that_up_to_ten_minutes():
    clock = Clock()

    times = (0.0, 31.0, 92.0, 213.0, 454.0, 935.0, 1536.0)

    assert [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0] == lengths(LeftAlone(30.0, clock), clock, *times)


def test_jobs_that_fail_there_at_the_same_time_count_once():
    clock = Clock()

    assert [30.0, 30.0, 30.0, 60.0] == lengths(LeftAlone(30.0, clock), clock, 0.0, 1.0, 29.0, 31.0)


def test_jobs_that_fail_there_after_hours_double_that_too():
    clock = Clock()
    alone = LeftAlone(30.0, clock)
    found = []

    for began, failed in ((0.0, 4000.0), (4031.0, 8000.0), (8061.0, 12_000.0)):
        clock.now = failed
        alone.add("a", "Its GPU failed.", began)
        found.append(alone.now()["a"].seconds)

    assert [30.0, 60.0, 120.0] == found


def test_a_node_that_did_well_for_ten_minutes_begins_anew():
    clock = Clock()

    assert [30.0, 60.0, 30.0] == lengths(LeftAlone(30.0, clock), clock, 0.0, 31.0, 700.0)
