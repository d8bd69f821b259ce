"""Runs that strangers import: records that no run could have, other people's ids, paths, and far too much of each."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.attacks.payloads import run_files, runs_zip
from tests.support.quick import chosen_quick
from tests.support.web.stranger import file_data

SURROGATE = "\ud800"


def imported(stranger, data):
    """Everything that the page says of an imported zip."""
    path = stranger.upload("runs.zip", data)
    return " ".join(
        answer.text for answer in stranger.run("import-runs", "upload", import_runs=file_data(path, "runs.zip"))
    )


def poisoned(name, change=None, events=None):
    return runs_zip((name, run_files(name, change=change, events=events)))


def setting(**fields):
    return lambda row: row | fields


def training(**fields):
    return lambda row: row | {"training": row["training"] | fields}


def lora(**fields):
    return lambda row: row | {"lora": row["lora"] | fields}


BASES = (SURROGATE, "x\ud800y", "A" * 5000, "/etc/passwd", "a\0b", "~/../etc/passwd", "../../etc", "file:///etc")
DATA = ("/etc/passwd", "~/../etc/x.csv", SURROGATE, "B" * 5000)
TIMES = (1e300, float("nan"), -1e18, float("inf"), 10**400, "x", None, 1e12)
REQUESTS = {
    **{f"base {value[:16]!r}": setting(base=value) for value in BASES},
    **{f"data {value[:12]!r}": setting(data=value) for value in DATA},
    **{f"created_at {v}": setting(created_at=v) for v in TIMES},
    **{f"steps {v:.0e}": training(max_steps=v) for v in (10**15, 10**300)},
    **{f"batch {v}": training(per_device_train_batch_size=v) for v in (10**9, -1, 0, True)},
    **{f"length {v}": training(max_length=v) for v in (10**12, -5)},
    **{f"r {str(v)[:8]}": lora(r=v) for v in (100_000, 10**300, 0, -4, 2.5, "16", None)},
    **{f"alpha {v}": lora(lora_alpha=v) for v in (1e300, float("nan"), float("inf"), -1)},
    **{f"rate {v}": setting(learning_rate=v) for v in (float("nan"), 1e300, -1, 0)},
    **{f"seed {str(v)[:8]}": setting(seed=v) for v in (10**300, -1, 1.5)},
    **{f"sweep id {v[:4]!r}": setting(sweep_id=v) for v in ("s" * 5000, "../../x", SURROGATE)},
    "optim zz": training(optim="zz"),
    "targets": lora(target_modules=["(a+)+b" * 500] * 100),
    "a pattern": lora(target_modules="(a+)+b"),
    "10,000 cut ranks": setting(cut_ranks=list(range(1, 10_000))),
    "a list": lambda row: [row],
    "an owner": setting(owner="admin"),
}


def line(kind, **fields):
    """The last event of this kind with other values."""

    def change(lines):
        rows = [json.loads(each) for each in lines]
        return [json.dumps(row | fields if row["event"] == kind else row) for row in rows]

    return change


def added(*texts):
    return lambda lines: [*lines[:3], *texts, *lines[3:]]


EVENTS = {
    **{f"loss {str(v)[:8]}": line("Evaluated", loss=v) for v in (10**400, 1e308, float("nan"), -1e300, "x", [])},
    **{f"time {str(v)[:8]}": line("StepLogged", time=v) for v in (1e300, -1e18, float("nan"), 10**400)},
    **{f"step {str(v)[:8]}": line("StepLogged", step=v) for v in (10**300, -1)},
    **{f"tokens {str(v)[:8]}": line("StepLogged", tokens=v) for v in (10**300, -(10**18))},
    **{f"memory {str(v)[:8]}": line("RunCompleted", peak_memory_bytes=v) for v in (10**300, -1)},
    **{f"seconds {v}": line("RunCompleted", train_seconds=v) for v in (1e308, float("inf"), float("nan"), -1)},
    **{f"environment {str(v)[:20]}": line("RunStarted", environment=v) for v in (
        {"device": 3, "versions": [], "cpu_count": "x"}, {"device_name": SURROGATE}, {"device_name": "A" * 10**5},
        {"device_memory_bytes": 1e300}, {"a": {"b": {"c": [1] * 1000}}}, [])},
    **{f"adapter {v[:14]}": line("AdapterSaved", path=v) for v in ("/etc", "../../..", "..", "~/x", "/proc/self")},
    "a stage": line("StageReached", stage="<img src=x onerror=alert(1)>" * 100),
    "losses": line("Evaluated", example_losses=[1e308] * 5000, tokens=0, examples=-1),
    "5,000 brackets": added("[" * 5000),
    "5,000 objects": added('{"a":' * 5000 + "1" + "}" * 5000),
    "a long number": added('{"event": "StepLogged", "step": ' + "9" * 10_000 + "}"),
    "no newline at all": lambda lines: ["".join(lines)],
    "a line of a megabyte": added(json.dumps({"event": "StageReached", "time": 1, "stage": "x" * 10**6})),
}  # fmt: skip
ROOT_LINE = "root:x:0:0"
UPLOADS = 15
"""Fewer than one visitor may have at once."""


def batch(during, ann, ben, zips):
    """Imported one after another; each is refused or shown as unreadable, and hurts nobody."""

    def attack():
        answers = []
        for number, data in enumerate(zips):
            if number % UPLOADS == UPLOADS - 1:
                ann.become_another()
            answers.append(imported(ann, data))
        return answers

    answers = during(attack)
    for answer in answers:
        assert ROOT_LINE not in answer
    assert [] == ann.load("?tab=runs")
    for name in ("runs", "models"):
        assert "" == ben.endpoint(name).error
    assert "" == ann.endpoint("runs").error
    return answers


@pytest.mark.slow
def test_requests_that_no_sweep_could_have_hurt_nobody(during, ann, ben, name):
    answers = batch(during, ann, ben, [poisoned(f"{name}-{i}", change) for i, change in enumerate(REQUESTS.values())])

    assert [] == [case for case, answer in zip(REQUESTS, answers, strict=True) if not answer]


@pytest.mark.slow
def test_events_that_no_run_could_have_hurt_nobody(during, ann, ben, name):
    batch(during, ann, ben, [poisoned(f"{name}-{i}", None, events) for i, events in enumerate(EVENTS.values())])


def test_what_was_imported_cannot_be_trained_again_past_the_limits(during, ann, space, name):
    """A cancelled run whose base and data are the server's, or whose steps have no end, and then Resume."""

    def cancelled(lines):
        return [lines[0], json.dumps({"event": "RunCancelled", "time": 5.0})]

    requests = [setting(base="/etc"), setting(data="/etc/passwd"), training(max_steps=900_000), lora(r=1024)]
    requests += [training(per_device_train_batch_size=4096, max_length=4096), setting(data="~/../etc/passwd")]

    def attack():
        errors = []
        for i, change in enumerate(requests):
            imported(ann, poisoned(f"{name}-{i}", change, cancelled))
            errors.append(resumed(ann, f"{name}-{i}-sweep"))
        return errors

    for error in during(attack):
        assert error, "resumed"
        assert ROOT_LINE not in error
    assert not [path for path in space.home.rglob("events.jsonl") if '"RunQueued"' in path.read_text()]


def resumed(stranger, sweep_id):
    """The error of Resume on a sweep that the address names."""
    stranger.load(f"?tab=runs&sweep={sweep_id}")
    return stranger.press("sweep-resume").error


def measured(name, runs, **lists):
    """A sweep of so many runs, three of each rank, with these lists of held-out examples."""
    (examples,) = {len(each) for each in lists.values()}
    counts = {"examples": examples, "tokens": 3 * examples, "correct_tokens": examples, **lists}

    def change(number):
        return lambda row: row | {"lora": row["lora"] | {"r": number // 3 + 1}, "seed": number % 3}

    def files(number):
        events = line("Evaluated", **counts)
        return run_files(f"{name}-{number}", f"{name}-sweep", change=change(number), events=events)

    return runs_zip(*((f"{name}-{number}", files(number)) for number in range(runs)))


VERDICTS = 45


@pytest.mark.slow
def test_verdicts_on_many_examples_hold_nobody(during, ann, name):
    """All at once, each within another tolerance; what each cost grew with the square of the examples."""
    examples = 16_000
    data = measured(name, 12, example_tokens=[3] * examples, example_correct_tokens=[1, 2] * (examples // 2))
    imported(ann, data)
    (runs,) = ann.endpoint("runs").data
    (sweep_id,) = {run["sweep_id"] for run in runs if name in run["run_id"]}

    def judged(number):
        body = {"sweep_id": sweep_id, "tolerance": 0.001 * (number + 1), "metric": "token_accuracy"}
        event = ann.http.post("/gradio_api/call/v2/verdict", json=body).json()["event_id"]
        return ann.http.get(f"/gradio_api/call/verdict/{event}").text

    def attack():
        with ThreadPoolExecutor(VERDICTS) as pool:
            return list(pool.map(judged, range(VERDICTS)))

    answers = during(attack)

    assert any(f'"examples": {examples}' in answer for answer in answers)
    assert [] == [answer for answer in answers if "event: complete" not in answer and "Try again" not in answer]


TOO_MUCH = {
    "3,000 runs": lambda name: runs_zip(*((f"{name}-{i}", run_files(name)) for i in range(3000))),
    "zeros": lambda name: runs_zip((name, {"request.json": "{}", "events.jsonl": b"\0" * (300 * 10**6)})),
    "a request of zeros": lambda name: runs_zip((name, {"request.json": b" " * (150 * 10**6), "events.jsonl": ""})),
    "a nested zip": lambda name: runs_zip((name, {"request.json": runs_zip((name, run_files(name)))})),
    "names that leave": lambda name: runs_zip((f"../../{name}", run_files(name))),
}


@pytest.mark.parametrize("much", chosen_quick(TOO_MUCH, ["zeros"]))
def test_a_zip_of_far_too_much_brings_nothing(during, ann, name, much):
    data = TOO_MUCH[much](name)

    assert "null" != during(lambda: imported(ann, data))
    assert name not in ann.endpoint("runs").text
