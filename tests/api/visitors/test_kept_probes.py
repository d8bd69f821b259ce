"""Probes count among the runs that are kept of a visitor, who has no list of them: ended ones make room."""

import pytest

from rankviz.core.runs.events import RunCancelled
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.runs.probes import SMOL
from tests.support.runs.probes import request as probe_request
from tests.support.web.kept import ended, sweeps_here, upload_of
from tests.support.web.visitors import ANN, BEN

ONE, TWO, THREE = (questions.sweep(ranks=ranks, max_steps=2) for ranks in ((4,), (4, 8), (4, 8, 16)))


def probed(api, visitor, name, *events):
    """The id of a visitor's probe, which waits unless it has ended with these events."""
    probe = probe_request(f"probe-{name}")
    api.workspace.store.create_probe(probe, "{}", visitor.id)
    for event in events:
        api.workspace.store.append(probe.probe_id, event)
    return probe.probe_id


def cancelled(api, visitor, name):
    return probed(api, visitor, name, RunCancelled(time=1.0))


def imports(api, tmp_path):
    exported = upload_of(ended(api.workspace.store, BEN.id, 4), api, tmp_path)
    with acting_as(ANN):
        api.runs.import_(exported)


def adds(api, tmp_path):
    api.moves.add(next(iter(api.runs.sweeps())).sweep_id, 8)


MORE = {
    "a sweep": lambda api, tmp_path: api.runs.start(ONE),
    "a run": adds,
    "a probe": lambda api, tmp_path: api.probes.start(questions.probe(SMOL)),
    "an import": imports,
}


@pytest.mark.parametrize("more", MORE)
def test_ended_probes_make_room_for_whatever_a_visitor_wants_next(shared, tmp_path, monkeypatch, more):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    api = shared(runs_kept=3)
    kept = ended(api.workspace.store, ANN.id, 4)
    first, second = cancelled(api, ANN, "1"), cancelled(api, ANN, "2")

    with acting_as(ANN):
        MORE[more](api, tmp_path)

    assert {kept, second} <= sweeps_here(api)
    assert first not in sweeps_here(api)
    assert 3 == len(api.workspace.store.records())
