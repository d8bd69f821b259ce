"""Where runs are, as people call it: "Ray cluster, node-0"."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rankviz.core.runs.attempts import HF_JOBS, LOCAL, RAY, SLURM, Attempted
from rankviz.core.runs.record import RunRecord

TITLES = {LOCAL: "this machine", HF_JOBS: "Hugging Face Jobs", RAY: "Ray cluster", SLURM: "Slurm cluster"}
MOST_NAMED = 4
"""Nodes of one engine."""


class Place(NamedTuple):
    """Of one run."""

    engine: str = ""
    """Its name; empty where it is not known."""
    where: str = ""
    """There, for people: "GPU 1", "node-3", "l4x1"; the engine's title, or empty, where there is no more to say."""

    @property
    def in_words(self) -> str:
        """ "Ray cluster, node-0"; empty where nothing is known."""
        return ", ".join(dict.fromkeys(filter(None, [title(self.engine), self.where])))


def title(engine: str) -> str:
    """Of an engine by its name, within a sentence."""
    return TITLES.get(engine, engine)


def place_of(run: RunRecord) -> Place:
    """Where the current attempt is; of a run whose last attempt never began, where the one before it was."""
    if run.state.ended and run.attempt_seconds is None and run.earlier:
        return Place(run.earlier[-1].engine, run.earlier[-1].where)
    return Place(run.engine, run.where)


def with_attempt(place: Place, run: Attempted) -> str:
    """ "Ray cluster, node-0, attempt 2"; the first attempt is not counted. Empty where nothing is known."""
    attempt = f"attempt {run.shown_attempt:,}" if run.shown_attempt > 1 else ""
    return ", ".join(filter(None, [place.in_words, attempt]))


def all_in_words(places: Iterable[Place]) -> str:
    """ "Ray cluster (node-0 and node-1) and this machine"; empty where nothing is known."""
    by_engine: dict[str, dict[str, None]] = {}
    for place in dict.fromkeys(places):  # of most runs of a sweep the same
        if place.engine or place.where:
            named = {place.where} - {"", title(place.engine)}
            by_engine.setdefault(title(place.engine), {}).update(dict.fromkeys(named))
    return _listed([_on(name, list(nodes)) for name, nodes in by_engine.items()])


def _on(name: str, nodes: Sequence[str]) -> str:
    return f"{name} ({_listed(nodes)})" if name and nodes else name or _listed(nodes)


def _listed(names: Iterable[str]) -> str:
    *others, last = list(names) or [""]
    if len(others) >= MOST_NAMED:
        others, last = others[: MOST_NAMED - 1], f"{len(others) - MOST_NAMED + 2:,} more"
    return f"{', '.join(others)} and {last}" if others else last
