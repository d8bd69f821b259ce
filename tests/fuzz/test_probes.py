"""Probes that others wrote: a request of one is read or refused, its journal is read whatever stands in it."""

import json
from dataclasses import asdict

from rankviz.api import Api
from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.events import DepthDidNotFit, DepthSkipped, ProbeCompleted, RunStarted, StageReached
from rankviz.errors import InvalidSettingError
from rankviz.store.journal import parse_lines, parse_request, request_text
from rankviz.ui.explore.sections import panel_html, standing_of
from tests.fuzz import mutate
from tests.support.runs import probes

REQUEST = probes.request()
EVENTS = (
    RunStarted(time=1.0, environment={"device": "cpu", "cpu_count": 2}),
    StageReached(time=2.0, stage="one block"),
    *(probes.measured(depth, forward=10 * depth, backward=20 * depth) for depth in REQUEST.depths),
    DepthDidNotFit(time=5.0, depth=4, limit_bytes=9, short_bytes=1, stage="backward", why="system"),
    DepthSkipped(time=6.0, depth=8, reason="time"),
    ProbeCompleted(time=7.0),
)
ROWS = [json.loads(json.dumps({"event": type(event).__name__, **asdict(event)})) for event in EVENTS]


def test_a_probes_request_is_read_or_refused(fuzz):
    def read(data):
        try:
            parse_request(data)
        except ValueError as misfit:
            raise InvalidSettingError(str(misfit)) from None

    fuzz(lambda rng: mutate.json_bytes(json.loads(request_text(REQUEST)), rng), read)


def test_a_probes_journal_is_read_whatever_stands_in_it_and_the_page_shows_it(fuzz, tmp_path):
    api = Api(home=tmp_path / "home", shared=False)
    api.workspace.store.create_probe(REQUEST, "{}")
    panel_html(api, api.probes.get(REQUEST.probe_id), "")  # reads what RankViz ships, once
    journal = api.workspace.store.run_dir(REQUEST.probe_id) / "events.jsonl"

    def read(data):
        record = ProbeRecord(request=REQUEST).after_all(parse_lines(data))
        json.dumps(asdict(record.extrapolated) if record.extrapolated else None, default=str)
        journal.write_bytes(data)
        api.workspace.store.forget([REQUEST.probe_id])
        record = api.probes.get(REQUEST.probe_id)
        panel_html(api, record, standing_of(api, record)).encode()

    fuzz(lambda rng: mutate.json_lines(ROWS, rng), read, refuses=False)
