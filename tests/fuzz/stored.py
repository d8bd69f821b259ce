"""A valid run as it is stored, every kind of event in it, to be broken; and everything that shows a stored run."""

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from random import Random

from rankviz.api import Api
from rankviz.cli.runs import sweep_json
from rankviz.core.runs.events import (
    AdapterAttached,
    AdapterCut,
    AdapterSaved,
    Answered,
    Evaluated,
    GreedyAnswer,
    RunCompleted,
    RunStarted,
    StageProgressed,
    StageReached,
    StepLogged,
)
from rankviz.core.runs.record import Sweep
from rankviz.errors import RankVizError
from rankviz.store.journal import request_text
from rankviz.ui.parts.sweep import answers_html, standing_html
from rankviz.verdict import verdict_json
from tests.fuzz import mutate
from tests.support.runs import questions
from tests.support.web.tabs import drawn

COUNTS = {"correct_tokens": 3, "example_tokens": (4, 2), "example_correct_tokens": (1, 2)}
COUNTS |= {"example_exact_matches": (0, 1), "exact_match_seconds": 0.5}
MEASURED = {"loss": 2.5, "tokens": 6, "examples": 2, "example_losses": (3.0, 1.5), **COUNTS}
ENVIRONMENT = {
    "device": "cpu", "device_name": "a CPU", "cpu_count": 2, "cpu_bf16": False, "threads": 2, "python": "3.11.7",
    "rankviz": "0.1.0", "versions": {"torch": "2.13.0", "peft": "0.21.2"}, "model_fingerprint": "5d7678dd402886d3",
    "total_parameters": 134515008, "train_examples": 100, "target_modules": ["q_proj", "v_proj"],
}  # fmt: skip
ANSWER = GreedyAnswer(place=0, prompt="a", reference="b", text="c", ended=True)
EVENTS = (
    StageReached(time=10.0, stage="loading the base"),
    StageProgressed(time=10.5, done=5, total=10, unit="bytes"),
    RunStarted(time=11.0, environment=ENVIRONMENT),
    AdapterAttached(time=12.0, trainable_parameters=1000),
    Evaluated(time=13.0, when="before", seconds=1.0, **MEASURED),
    Answered(time=14.0, when="before", answers=(ANSWER,), seconds=1.0),
    StageReached(time=14.0, stage="training"),
    *(
        StepLogged(time=14.0 + n, step=n, loss=5.0 / n, learning_rate=1e-3, tokens=8 * n, seconds=n / 2, memory_bytes=9)
        for n in range(1, 9)
    ),
    Evaluated(time=30.0, when="after", seconds=1.0, **MEASURED),
    Answered(time=31.0, when="after", answers=(ANSWER,), seconds=1.0),
    AdapterSaved(time=32.0, path="adapter", file_bytes=4000),
    *(AdapterCut(time=33.0, r=r, seconds=1.0, path=f"cuts/r{r}", **MEASURED) for r in (8, 4, 1)),
    RunCompleted(time=40.0, train_seconds=9.0, peak_memory_bytes=100, peak_memory_kind="process resident"),
)
ROWS = [json.loads(json.dumps({"event": type(event).__name__, **asdict(event)})) for event in EVENTS]


@cache
def request_row(run_id: str, sweep_id: str, r: int = 16) -> dict:
    """Not to be changed: whoever breaks it breaks a copy."""
    sweep = questions.sweep(ranks=(r,), cut_ranks=(1, 4, 8) if r == 16 else (), max_steps=8)
    (run,) = sweep.runs(sweep_id=sweep_id, created_at=10.0)
    return json.loads(request_text(replace(run, run_id=run_id)))


def broken_journal(rng: Random) -> bytes:
    """Mostly of a run that has ended all the same. Some hold nothing but what is allowed, at its far ends."""
    rows = [_extreme(row, rng) for row in ROWS]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if rng.random() < 0.7:
        data = mutate.json_lines(rng.choice((ROWS, rows)), rng)
    return data if rng.random() < 0.3 else data.rstrip(b"\n") + b"\n" + json.dumps(ROWS[-1]).encode() + b"\n"


def _extreme(value: object, rng: Random) -> object:
    """Half of the numbers in it at ends of what numbers of some kind may be."""
    if isinstance(value, dict):
        return {name: _extreme(each, rng) for name, each in value.items()}
    if isinstance(value, list):
        return [_extreme(each, rng) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or rng.random() < 0.5:
        return value
    ends = (0, 1, 2, 10**9, 10**15, 2**60)
    return rng.choice(ends if isinstance(value, int) else (*ends, 1e-9, 1e-300, 0.5, 10.0, 1e7, float("nan")))


def broken_request(rng: Random, run_id: str, sweep_id: str) -> bytes:
    row = request_row(run_id, sweep_id)
    return json.dumps(row).encode() if rng.random() < 0.4 else mutate.json_bytes(row, rng)


def write_run(home: Path, run_id: str, request: bytes, journal: bytes) -> None:
    folder = home / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "request.json").write_bytes(request)
    (folder / "events.jsonl").write_bytes(journal)


def show_pages(api: Api) -> None:
    """The page's list with everything selected, the page of a sweep with one of its runs, and its part of the page of
    Train."""
    for sweep in _sweeps(api):
        str(drawn(api, selected=[sweep.sweep_id]))
        str(drawn(api, sweep_id=sweep.sweep_id, run_id=sweep.runs[-1].run_id))
        standing_html(api, sweep)
        answers_html(sweep)


def show_numbers(api: Api) -> None:
    """What the command line and the endpoints give, and the files. A refusal of one operation is an answer."""
    for sweep in _sweeps(api):
        for each in sweep.runs:
            json.dumps(api.runs.row(each.run_id))
        for operation in (
            lambda sweep=sweep: sweep_json(api, sweep.sweep_id),
            lambda sweep=sweep: (answer := api.verdicts.of_sweep(sweep.sweep_id)) and verdict_json(answer),
            lambda sweep=sweep: api.verdicts.decide(sweep.sweep_id),
            lambda sweep=sweep: api.studies.bent(sweep.sweep_id),
            lambda sweep=sweep: api.runs.export([sweep.sweep_id], api.workspace.home / "out.zip"),
            lambda sweep=sweep: api.adapters.zip_of_rank(sweep.runs[-1].run_id, 4),
        ):
            try:
                operation()
            except RankVizError:
                continue
    api.adapters.runs()
    for name, reason in api.runs.unreadable().items():
        f"{name} {reason}".encode()


SHOWS = {"pages": show_pages, "numbers and files": show_numbers}
"""Together everything that lists, draws, judges or exports the runs of a home. A page has no refusals."""


def _sweeps(api: Api) -> list[Sweep]:
    return [sweep for sweep in api.runs.sweeps() if not sweep.recorded]
