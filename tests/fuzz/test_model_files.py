"""Broken config.json and adapter files: a result or a sentence."""

import json
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors.numpy import save

from rankviz.api import Api
from rankviz.catalog.models import load_config
from rankviz.cli.runs import sweep_json
from rankviz.core.model.config_check import parse_config
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
from rankviz.errors import RankVizError, UserError
from rankviz.hub.reach import has_weights
from rankviz.paths import ASSETS
from rankviz.store import RunStore
from rankviz.store.journal import request_text
from rankviz.trained.read import read_adapter, spectrum
from rankviz.ui.parts.sweep import answers_html, standing_html
from rankviz.verdict import verdict_json
from tests.attacks.payloads import zip_of
from tests.fuzz import mutate
from tests.fuzz.in_process import InProcess
from tests.support.runs import questions
from tests.support.runs.finished_runs import import_runs
from tests.support.web.played_hub import COMMIT
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


ADAPTER_CONFIG = {
    "peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-4B", "r": 4, "lora_alpha": 8, "use_rslora": False,
    "use_dora": False, "init_lora_weights": True, "target_modules": ["q_proj", "v_proj"],
    "target_parameters": ["mlp.experts.down_proj"], "modules_to_save": ["lm_head"], "exclude_modules": None,
    "layers_pattern": None, "alpha_pattern": {"v_proj": 4},
    "rank_pattern": {"^model.layers.(0|1).self_attn.v_proj": 2, r".*\.k_proj": 8},
}  # fmt: skip
RANKS = {"q_proj": 4, "v_proj": 2}


def weights():
    generator = np.random.default_rng(0)
    tensors = {}
    for block in (0, 1):
        for name, r in RANKS.items():
            module = f"base_model.model.model.layers.{block}.self_attn.{name}"
            tensors[f"{module}.lora_A.weight"] = generator.standard_normal((r, 6), dtype=np.float32)
            tensors[f"{module}.lora_B.weight"] = generator.standard_normal((5, r), dtype=np.float32)
    return save(tensors)


WEIGHTS = weights()


def broken_weights(rng):
    """The file with its header broken as JSON, or as bytes."""
    if rng.random() < 0.3:
        return mutate.file_bytes(WEIGHTS, rng)
    length = int.from_bytes(WEIGHTS[:8], "little")
    header = mutate.json_bytes(json.loads(WEIGHTS[8 : 8 + length]), rng)
    said = len(header) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**63, length))
    return said.to_bytes(8, "little") + header + WEIGHTS[8 + length :]


def test_a_models_config(fuzz):
    config = load_config(ASSETS, "Qwen/Qwen3-30B-A3B")

    fuzz(lambda rng: mutate.json_bytes(config, rng), parse_config)


def test_an_adapter(fuzz, tmp_path):
    def make(rng):
        which = rng.random()
        config = mutate.json_bytes(ADAPTER_CONFIG, rng) if which < 0.4 else json.dumps(ADAPTER_CONFIG).encode()
        return config, broken_weights(rng) if which > 0.3 else WEIGHTS

    def read(files):
        config, tensors = files
        (tmp_path / "adapter_config.json").write_bytes(config)
        (tmp_path / "adapter_model.safetensors").write_bytes(tensors)
        spectrum(read_adapter([tmp_path]))

    fuzz(make, read)


INDEX = {"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
SHARDS = tuple(f"model-0000{number}-of-0000{of}.safetensors" for of in (1, 2, 3) for number in range(1, of + 1))


def test_what_the_hubs_cache_has_of_a_base(fuzz, tmp_path, monkeypatch):
    """refuses: a base whose weights cannot be told to be there is fetched."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--model"
    snapshot = folder / "snapshots" / COMMIT
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)

    def make(rng):
        names = [rng.choice(SHARDS) for _ in range(rng.randrange(5))]
        broken = [mutate.file_bytes(name.encode(), rng).replace(b"/", b"").replace(b"\0", b"") for name in names[:1]]
        return mutate.json_bytes(INDEX, rng), [*(name.encode() for name in names), *(name[:255] for name in broken)]

    def read(files):
        index, names = files
        shutil.rmtree(snapshot, ignore_errors=True)
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors.index.json").write_bytes(index)
        for name in {*names} - {b"", b".", b".."}:
            (snapshot / os.fsdecode(name)).touch()
        if not has_weights("someone/model"):
            raise UserError("fetched")

    fuzz(make, read)


def test_an_imported_zip_is_taken_whole_or_refused(fuzz):
    def make(rng):
        members = {"runs/a/request.json": broken_request(rng, "a", "s"), "runs/a/events.jsonl": broken_journal(rng)}
        members |= {f"runs/b/{name}": data for name, data in _sound("b").items()}
        return mutate.zip_bytes(members, rng) if rng.random() < 0.5 else zip_of(members)

    def read(data):
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "runs.zip"
            archive.write_bytes(data)
            ids = import_runs(RunStore(Path(folder)), archive)
            assert sorted(ids) == sorted(record.run_id for record in RunStore(Path(folder)).all())

    fuzz(make, read)


@pytest.mark.timeout(3600)  # a minute or two by itself; each case has bounds of its own
@pytest.mark.parametrize("shown", SHOWS)
def test_what_is_stored_is_shown_whatever_it_is(fuzz, shown):
    home = Path(tempfile.mkdtemp())
    api = Api(home=home)
    InProcess.of(api.workspace)
    api.runs.recorded()  # reads what RankViz ships, once

    def make(rng):
        return rng.randrange(10**9), broken_request(rng, "a", "s"), broken_journal(rng)

    def read(case):
        number, request, journal = case
        shutil.rmtree(home / "runs", ignore_errors=True)
        sweep_id, run_id = f"s{number}", f"a{number}"
        request = request.replace(b'"a"', f'"{run_id}"'.encode(), 1).replace(b'"s"', f'"{sweep_id}"'.encode(), 1)
        sound = _sound(f"b{number}", sweep_id)
        write_run(home, run_id, request, journal)
        write_run(home, f"b{number}", sound["request.json"], sound["events.jsonl"])
        SHOWS[shown](api)

    try:
        fuzz(make, read, refuses=False)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@cache
def _sound(run_id, sweep_id="s"):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    return {"request.json": json.dumps(request_row(run_id, sweep_id, r=4)).encode(), "events.jsonl": lines.encode()}
