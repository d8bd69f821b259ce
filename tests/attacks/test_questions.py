"""Models, data and numbers that strangers ask for: paths of the server, and sizes that no machine has."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.attacks.payloads import run_files, runs_zip
from tests.attacks.test_imports import imported
from tests.attacks.test_owners import sweeps_of
from tests.attacks.watching import watched
from tests.support.models.tiny_llama import LLAMA
from tests.support.quick import first_quick
from tests.support.web.stranger import Stranger, file_data

PATHS = ["/etc/passwd", "~/../etc/passwd", "~root", "../../etc/passwd", "./app.py", "file:///etc/passwd", "assets"]
PATHS += ["//etc/passwd", "/proc/self/environ", "~nosuchuser/x", "$HOME", "a\x00b", "\ud800", "A" * 5000]
SECRETS = ("root:x:0:0", "RANKVIZ_", "column")


def test_no_path_of_the_server_is_a_model_or_data(during, ann):
    def attack():
        texts = []
        for path in PATHS:
            texts.append(ann.http.post("/rankviz/answer", content=json.dumps({"values": {"model": path}})).text)
            texts += [ann.endpoint(name, path).text for name in ("estimate", "fit", "advise", "forecast", "run")]
            texts.append(ann.press("train-button", train_base=path, train_steps=2).text)
            texts.append(ann.press("train-button", train_data="own", train_file=file_data(path), train_steps=2).text)
            texts.append(ann.press("probe-button", model=path).text)
        return texts

    for text in during(attack):
        assert not [secret for secret in SECRETS if secret in text]
    assert "[[]]" == json.dumps(ann.endpoint("runs").data)


HUGE = ["0-30000000", "1," * 10**6, "1e9", "9" * 5000, "0:30000000", "-1", "nan", "1 2 3 " * 10**5]


def test_numbers_without_end_are_refused_before_anything_is_built(during, ann):
    def attack():
        texts = []
        for text in HUGE:
            for field in ("Seeds", "Learning rates", "train-independent", "Other ranks"):
                texts += ann.run("train-mode", "input", named={field: text})
                texts.append(ann.press("train-button", train_steps=2, named={field: text}))
        for steps in (10**6, 10**15, 10**300, -1, None, "x"):
            texts.append(ann.press("train-button", train_steps=steps))
        return texts

    during(attack)
    assert len(json.loads(json.dumps(ann.endpoint("runs").data))[0]) <= 24


NUMBERS = ("num_hidden_layers", "hidden_size", "vocab_size", "num_labels", "num_attention_heads", "intermediate_size")
NUMBERS += ("num_local_experts", "num_experts", "head_dim", "max_position_embeddings", "num_key_value_heads")
NUMBERS += ("pad_token_id",)
CONFIG = "Upload a config.json"
POWERS = (8, 9, 15)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("value", [10**power for power in POWERS])
def test_a_config_of_any_size_is_read_once_within_bounds_or_refused(space, during, ann, ben, value):
    """One at a time; what came of it is remembered, a failure too."""
    paths = [ann.upload("config.json", json.dumps(LLAMA | {name: value}).encode()) for name in NUMBERS]

    def tried(path):
        data = file_data(path, "config.json")
        answers = ann.run(CONFIG, "upload", named={CONFIG: data})
        return [*(answer.text for answer in answers), ann.ask(model=path).text]

    first = during(lambda: [tried(path) for path in paths])
    last = slice(-4, None)  # after ten minutes a failure is forgotten
    again = watched(space, ben, "configs once more", lambda: [tried(path) for path in paths[last]], readers_at_once=0)

    assert first[last] == again


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_models_of_nine_visitors_that_are_slow_to_lay_out_keep_nobody_from_importing(space, during, name):
    """As deep as may be, each another one."""
    deep = LLAMA | {"model_type": "jamba", "num_hidden_layers": 400, "num_experts": 100}
    cat = Stranger(space.url)

    def lay_out(number):
        ann = Stranger(space.url)
        path = ann.upload("config.json", json.dumps(deep | {"vocab_size": 1000 + number}).encode())
        return ann.ask(model=path).text

    def attack():
        with ThreadPoolExecutor(9) as pool:
            asked = [pool.submit(lay_out, number) for number in range(9)]
            while not space.readers():
                time.sleep(0.05)
            imported(cat, runs_zip((name, run_files(name))))
            return [each.result() for each in asked if not isinstance(each.exception(), httpx.TimeoutException)]

    answers = during(attack, readers_at_once=2)

    assert name in sweeps_of(cat)
    assert 6 <= sum("lays out at most 1 at once" in text for text in answers)


BODIES = [b"", b"[]", b"null", b"{" * 5000, b'{"values": {"r": 1e999}}', b"x" * 200_000]
BODIES += [b'{"values": {"ranks": null, "model": 5}}', b'{"values": {"model": "\\ud800"}}']
BODIES += [b'{"search": "' + b"?r=1&" * 15_000 + b'"}']


@pytest.mark.slow
@pytest.mark.parametrize("name", ["answer", "words", "compare"])
def test_any_body_is_answered(during, ann, name):
    replies = during(lambda: [ann.http.post(f"/rankviz/{name}", content=body).status_code for body in BODIES])

    assert {200, 413, 422} >= set(replies)


def test_uploads_of_one_visitor_have_an_end(during, ann, space):
    """Files of 6 MB that nobody uses; 100 MB is what one file may have, and 300 MB all of a visitor."""

    def attack():
        codes = []
        for i in range(60):
            reply = ann.http.post("/gradio_api/upload", files={"files": (f"{i}.bin", bytes([i]) * 6 * 10**6)})
            codes.append(reply.status_code)
        big = ann.http.post("/gradio_api/upload", files={"files": ("big.bin", b"0" * (101 * 10**6))})
        return codes, big.status_code

    codes, big = during(attack)

    assert 413 == big
    assert codes[-1] >= 400
    assert 300 * 10**6 >= sum(path.stat().st_size for path in space.temp.rglob("*.bin") if path.is_file())


HUGE_BASES = ["meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-235B-A22B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-4B"]


@pytest.mark.parametrize("base", first_quick(HUGE_BASES))
def test_a_base_that_no_space_could_hold_is_refused_before_it_is_queued(during, ann, base):
    """By the form, the endpoint and a probe."""

    def attack():
        pressed = ann.press("train-button", train_base=base, train_steps=2).error
        started = ann.endpoint("start_sweep", base, "phonemes", "sweep", [4, 8, 16, 64]).error
        return [pressed, started, ann.press("probe-button", model=base).text]

    for refusal in during(attack):
        assert "at most 1,000,000,000 parameters" in refusal or "is not in the catalogue" in refusal, refusal
    assert "[[]]" == json.dumps(ann.endpoint("runs").data)


FEW_PAGES, MANY_PAGES = 20, 300
FIRST_PAGES = 30
"""They, and the first estimates beside them, fill caches that all share."""
SESSION_MB = 0.2
"""Of the app, for each page that somebody opened and never came back to."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sessions", first_quick([FEW_PAGES, MANY_PAGES]))
def test_pages_that_are_opened_and_left_cost_little(during, ann, space, sessions):
    def open_and_leave():
        ann.become_another()
        assert [] == ann.load()
        ann.press("adapter-sample", adapter_source="sample")

    during(lambda: [open_and_leave() for _ in range(FIRST_PAGES)])
    before = space.rss.memory_info().rss

    during(lambda: [open_and_leave() for _ in range(sessions)])

    assert (space.rss.memory_info().rss - before) / sessions < SESSION_MB * 10**6


ASKED_AT_ONCE = 300
ALIKE = ("/", "/config", "/?page=x", "/?deep_link=x", "/gradio_api/info?all_endpoints=true")


@pytest.mark.slow
def test_pages_and_scripts_asked_for_at_once_block_nobody(space, ann, during):
    scripts = [f"/{path.removeprefix('./')}" for path in re.findall(r'(?:src|href)="([^"]+[.]js)"', ann.page.text)]
    assert any("plotly" in path for path in scripts) and any("assets" in path for path in scripts)
    addresses = [*ALIKE, *scripts]

    def ask(number):
        headers = {"host": f"name-{number}.example"} if number % 3 == 0 else {}
        address = addresses[number % len(addresses)]
        return httpx.get(f"{space.url}{address}", headers=headers, timeout=120).status_code

    def attack():
        with ThreadPoolExecutor(60) as pool:
            return set(pool.map(ask, range(ASKED_AT_ONCE)))

    assert {200, 421} == during(attack)  # 421: of names that are not the server's
