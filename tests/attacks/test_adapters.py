"""Adapters that strangers give to be opened: patterns without end, bombs, configurations of other types."""

import json
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from rankviz.paths import bytes_in
from tests.attacks.payloads import adapter_zip, run_files, runs_zip, zip_of
from tests.attacks.test_imports import imported
from tests.support.models.saved_adapters import CONFIG, two_blocks
from tests.support.quick import chosen_quick, first_quick
from tests.support.web.stranger import file_data

MODULE = "a" * 34
PATTERNS = ["(a+)+b", "(a|aa)+$", "((a*)*)*b", "(.*.*.*.*.*.*)*x"]
PATTERNS += ["a{1,9999}{1,9999}", "(?=(a+)+b)a", "^(([a-z])+.)+[A-Z]$"]
FIELDS = ["target_modules", "rank_pattern", "alpha_pattern", "modules_to_save", "exclude_modules", "target_parameters"]


def named_a(r=4, module=MODULE):
    """A safetensors file of one module, whose name is 34 a's unless given."""
    name = f"base_model.model.{module}"
    header = {
        f"{name}.lora_A.weight": {"dtype": "F32", "shape": [r, 8], "data_offsets": [0, 32 * r]},
        f"{name}.lora_B.weight": {"dtype": "F32", "shape": [8, r], "data_offsets": [32 * r, 64 * r]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", 0.5) * (16 * r)


def opened(stranger, data, name="adapter.zip"):
    """What the Adapter tab says of an uploaded file."""
    path = stranger.upload(name, data)
    files = {"adapter_files": [file_data(path, name)], "adapter_source": json.dumps([path])}
    answers = stranger.run("adapter-files", "change", **files)
    return " ".join(answer.text for answer in answers)


def test_names_of_any_length_come_back_in_short(during, ann):
    """Of modules, of files in the zip, and of what the configuration says."""
    long = "layers." * 700_000
    zips = [
        {"adapter_config.json": json.dumps(CONFIG), "adapter_model.safetensors": named_a(module=long)},
        {"adapter_config.json": json.dumps(CONFIG | {"init_lora_weights": f"pissa{long[:10**6]}"}),
         "adapter_model.safetensors": named_a()},
        {"x" * 60_000 + ".bin": "x"},
    ]  # fmt: skip

    answers = during(lambda: [opened(ann, zip_of(files)) for files in zips])

    assert all(len(answer) < 200_000 for answer in answers)


@pytest.mark.parametrize("field", chosen_quick(FIELDS, ["rank_pattern"]))
def test_patterns_of_an_adapter_stop_nobody(during, ann, field):
    def attack():
        texts = []
        for pattern in PATTERNS:
            value = {pattern: 4} if field.endswith("_pattern") else pattern
            for given in (value, [pattern]) if field not in ("rank_pattern", "alpha_pattern") else (value,):
                text = json.dumps(CONFIG | {field: given})
                texts.append(opened(ann, zip_of({"adapter_config.json": text, "adapter_model.safetensors": named_a()})))
        return texts

    assert all(len(text) > 20 for text in during(attack))


BOMBS = {
    "weights of zeros": lambda: {"adapter_model.safetensors": b"\0" * (300 * 10**6)},
    "a config of spaces": lambda: {"adapter_config.json": json.dumps(CONFIG) + " " * (150 * 10**6)},
    "many files": lambda: {f"f{i}.bin": b"0" * 1000 for i in range(20_000)},
    "a file beside": lambda: {"other.bin": b"\0" * (300 * 10**6)},
}


@pytest.mark.parametrize("bomb", first_quick(BOMBS))
def test_a_zip_that_unpacks_to_far_more_leaves_nothing(during, ann, space, tmp_path, bomb):
    before = bytes_in(space.temp)
    data = adapter_zip(tmp_path, BOMBS[bomb]().items())

    answer = during(lambda: opened(ann, data))

    # What is no part of an adapter is never unpacked, so a file beside it does no harm.
    assert bomb == "a file beside" or "rv-error" in answer
    assert bytes_in(space.temp) - before < 20 * 10**6 + len(data)


MODULES, REDRAWS = 49_000, 40


@pytest.mark.slow
def test_redraws_of_an_adapter_of_many_modules_keep_nobody_waiting(during, ann):
    """13 MB; all redraws at once, while the endpoint lists the modules."""
    config = json.dumps(CONFIG | {"r": 1})
    path = ann.upload(
        "a.zip", zip_of({"adapter_config.json": config, "adapter_model.safetensors": many_modules(MODULES)})
    )
    given = {"adapter_files": [file_data(path, "a.zip")], "adapter_source": json.dumps([path])}

    def redrawn(number):
        return " ".join(answer.text for answer in ann.run("adapter-files", "change", **given))

    assert f"of {MODULES}" in redrawn(0)

    def attack():
        with ThreadPoolExecutor(REDRAWS + 1) as pool:
            listed = pool.submit(ann.endpoint, "spectrum", path)
            return list(pool.map(redrawn, range(REDRAWS))), listed.result()

    answers, listed = during(attack)

    assert any("adapter-modules" in answer for answer in answers)
    assert [] == [text[:500] for text in answers if "adapter-modules" not in text and "is busy" not in text]
    assert MODULES == listed.data[0]["layers_in_all"]


def many_modules(count):
    """A safetensors file of updates of rank 1, each in a block of its own."""
    header, at = {}, 0
    for number in range(count):
        for factor, shape in (("A", [1, 2]), ("B", [2, 1])):
            name = f"base_model.model.layers.{number}.q_proj.lora_{factor}.weight"
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 8]}
            at += 8
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", 0.5) * (at // 4)


HEADERS = {
    "a header of 10^18 bytes": struct.pack("<Q", 10**18) + b"{}",
    "a shape of 10^6 × 10^9": b'{"x.lora_A.weight":{"dtype":"F32","shape":[1000000,1000000000],"data_offsets":[0,4]}}',
    "offsets below zero": b'{"x.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[-4,0]}}',
    "a shape of texts": b'{"x.lora_A.weight":{"dtype":"F32","shape":["a"],"data_offsets":[0,4]}}',
    "50,000 tensors": json.dumps(
        {f"m{i}.lora_A.weight": {"dtype": "F32", "shape": [0, 1], "data_offsets": [0, 0]} for i in range(50_000)}
    ).encode(),
}


@pytest.mark.parametrize("header", first_quick(HEADERS))
def test_a_header_that_lies_is_a_sentence(during, ann, header):
    text = HEADERS[header]
    weights = text if text[:1] != b"{" else struct.pack("<Q", len(text)) + text + b"\0\0\0\0"
    data = zip_of({"adapter_config.json": json.dumps(CONFIG), "adapter_model.safetensors": weights})

    assert "rv-error" in during(lambda: opened(ann, data))


CONFIGS = [
    {"r": 10**9},
    {"r": True},
    {"lora_alpha": 10**400},
    {"lora_alpha": float("nan")},
    {"target_parameters": [1, 2.5, None]},
    {"target_parameters": 7},
    {"base_model_name_or_path": "A" * 5000},
    {"base_model_name_or_path": "\ud800"},
    {"base_model_name_or_path": "/etc/passwd"},
    {"rank_pattern": {f"m{i}": 4 for i in range(20_000)}},
]


@pytest.mark.slow
def test_a_configuration_of_other_values_is_read_or_a_sentence(during, ann, tmp_path):
    deep = '{"peft_type":"LORA","r":4,"x":' + "[" * 100_000 + "]" * 100_000 + "}"
    zips = [adapter_zip(tmp_path, **config) for config in CONFIGS]
    zips += [zip_of({"adapter_config.json": deep, "adapter_model.safetensors": named_a()})]

    answers = during(lambda: [opened(ann, data) for data in zips])

    assert [] == [text for text in answers if "rv-" not in text or "root:" in text]
    assert "rv-error" in answers[-1]


SERVERS = ("~/../etc", "/etc", "~root", "../..", "file:///etc", "~nosuchuser", "A" * 5000, "a\x00b", "\ud800")


@pytest.mark.slow
def test_no_path_of_the_server_is_an_adapter(during, ann):
    def attack():
        return [" ".join(each.text for each in ann.run("adapter-ref", "submit", adapter_source=ref)) for ref in SERVERS]

    for answer in during(attack):
        assert "rv-error" in answer or "has a character that is no text" in answer
        assert "adapter_config.json is missing" not in answer


LEAVING = {
    "the path": lambda path: str(path),
    "the way up": lambda path: f"../../{path.name}",
    "a way down and up": lambda path: f"adapter/../../../{path.name}",
    "the home of somebody": lambda path: f"~/../..{path}",
    "an address": lambda path: f"file://{path}",
    "another's run": lambda path: "../another/adapter",
    "nothing": lambda path: "",
    "a null": lambda path: f"{path}\0",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["AdapterSaved", "AdapterCut"])
def test_an_imported_path_that_leaves_the_runs_folder_gives_no_adapter(during, ann, space, name, kind):
    """Opened, resized and downloaded, at every door: an adapter of the server itself, and one in another's run."""
    secret = two_blocks(space.home / "secret-adapter")
    (space.home / "runs" / "another" / "adapter").mkdir(parents=True, exist_ok=True)
    two_blocks(space.home / "runs" / "another" / "adapter")

    def at_every_door(run_id, path):
        imported(ann, runs_zip((run_id, run_files(run_id, events=lambda lines: leaving(lines, kind, path)))))
        texts = [answer.text for answer in ann.run("adapter-ref", "submit", adapter_source=run_id)]
        texts += [ann.endpoint("spectrum", run_id).text, ann.endpoint("resize", run_id, 2).text]
        ann.load(f"?tab=runs&sweep={run_id}-sweep&run={run_id}")
        return [*texts, ann.press("sweep-ship").text]

    def attack():
        paths = {f"{name}-{i}": of(secret) for i, of in enumerate(LEAVING.values())}
        return [text for run_id, path in paths.items() for text in at_every_door(run_id, path)]

    assert [] == [text for text in during(attack) if "singular_values" in text or '"path"' in text]
    assert f"{name}-0-sweep" in ann.endpoint("runs").text


def leaving(lines, kind, path):
    """A finished run's events whose adapter, or whose truncated one, is said to be there."""
    rows = [json.loads(line) for line in lines]
    evaluated = next(row for row in rows if row["event"] == "Evaluated")
    cut = {"event": "AdapterCut", "time": 8.0, "r": 2, "seconds": 1.0, "path": path}
    cut |= {field: evaluated[field] for field in ("loss", "tokens", "examples")}
    rows = [row | {"path": path} if row["event"] == kind == "AdapterSaved" else row for row in rows]
    return [json.dumps(row) for row in (*rows[:-1], cut, rows[-1])]
