"""Broken config.json and adapter files: a result or a sentence."""

import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from rankviz.api import Api
from rankviz.catalog.models import load_config
from rankviz.core.model.config_check import parse_config
from rankviz.errors import UserError
from rankviz.hub.reach import has_weights
from rankviz.paths import ASSETS
from rankviz.store import RunStore
from rankviz.trained.read import read_adapter
from rankviz.trained.resize import spectrum
from tests.attacks.payloads import zip_of
from tests.fuzz import mutate
from tests.fuzz.in_process import InProcess
from tests.fuzz.stored import ROWS, SHOWS, broken_journal, broken_request, request_row, write_run
from tests.support.runs.finished_runs import import_runs
from tests.support.web.played_hub import COMMIT

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
