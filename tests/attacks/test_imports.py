"""Runs that strangers import: records that no run could have, other people's ids, paths, and far too much of each."""

import json
import random
import string
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from rankviz.settings import SHARED_LIMITS
from tests.attacks.payloads import run_files, runs_zip
from tests.support.quick import chosen_quick, first_quick
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


def each(change, **values):
    """A change for each value of each field."""
    return [change(**{field: value}) for field, all_of_it in values.items() for value in all_of_it]


REQUESTS = [
    *each(setting, base=(SURROGATE, "x\ud800y", "A" * 5000, "/etc/passwd", "a\0b", "~/../etc/passwd", "../../etc")),
    *each(setting, base=["file:///etc"], data=("/etc/passwd", "~/../etc/x.csv", SURROGATE, "B" * 5000)),
    *each(setting, created_at=(1e300, float("nan"), -1e18, float("inf"), 10**400, "x", None, 1e12)),
    *each(setting, learning_rate=(float("nan"), 1e300, -1, 0), seed=(10**300, -1, 1.5), owner=["admin"]),
    *each(setting, sweep_id=("s" * 5000, "../../x", SURROGATE), cut_ranks=[list(range(1, 10_000))]),
    *each(training, max_steps=(10**15, 10**300), per_device_train_batch_size=(10**9, -1, 0, True)),
    *each(training, max_length=(10**12, -5), optim=["zz"]),
    *each(lora, r=(100_000, 10**300, 0, -4, 2.5, "16", None), lora_alpha=(1e300, float("nan"), float("inf"), -1)),
    *each(lora, target_modules=(["(a+)+b" * 500] * 100, "(a+)+b")),
    lambda row: [row],
]


def line(kind, **fields):
    """The last event of this kind with other values."""

    def change(lines):
        rows = [json.loads(each) for each in lines]
        return [json.dumps(row | fields if row["event"] == kind else row) for row in rows]

    return change


def added(*texts):
    return lambda lines: [*lines[:3], *texts, *lines[3:]]


ENVIRONMENTS = (
    {"device": 3, "versions": [], "cpu_count": "x"},
    {"device_name": SURROGATE},
    {"device_name": "A" * 10**5},
    {"device_memory_bytes": 1e300},
    {"a": {"b": {"c": [1] * 1000}}},
    [],
)
EVENTS = [
    *each(partial(line, "Evaluated"), loss=(10**400, 1e308, float("nan"), -1e300, "x", [])),
    *each(partial(line, "StepLogged"), time=(1e300, -1e18, float("nan"), 10**400), step=(10**300, -1)),
    *each(partial(line, "StepLogged"), tokens=(10**300, -(10**18))),
    *each(partial(line, "RunCompleted"), peak_memory_bytes=(10**300, -1)),
    *each(partial(line, "RunCompleted"), train_seconds=(1e308, float("inf"), float("nan"), -1)),
    *each(partial(line, "RunStarted"), environment=ENVIRONMENTS),
    *each(partial(line, "AdapterSaved"), path=("/etc", "../../..", "..", "~/x", "/proc/self")),
    line("StageReached", stage="<img src=x onerror=alert(1)>" * 100),
    line("Evaluated", example_losses=[1e308] * 5000, tokens=0, examples=-1),
    added("[" * 5000),
    added('{"a":' * 5000 + "1" + "}" * 5000),
    added('{"event": "StepLogged", "step": ' + "9" * 10_000 + "}"),
    lambda lines: ["".join(lines)],
    added(json.dumps({"event": "StageReached", "time": 1, "stage": "x" * 10**6})),
]
ROOT_LINE = "root:x:0:0"
UPLOADS = 15
"""Fewer than one visitor may have at once."""


@pytest.mark.slow
def test_requests_and_events_that_no_run_could_have_hurt_nobody(during, ann, ben, name):
    """Imported one after another; each is refused or shown as unreadable."""
    changes = [(request, None) for request in REQUESTS] + [(None, events) for events in EVENTS]

    def attack():
        answers = []
        for number, (request, events) in enumerate(changes):
            if number % UPLOADS == UPLOADS - 1:
                ann.become_another()
            answers.append(imported(ann, poisoned(f"{name}-{number}", request, events)))
        return answers

    answers = during(attack)

    assert [] == [number for number, answer in enumerate(answers[: len(REQUESTS)]) if not answer]
    assert ROOT_LINE not in " ".join(answers)
    assert [] == ann.load("?tab=runs")
    assert ["", "", ""] == [ben.endpoint("runs").error, ben.endpoint("models").error, ann.endpoint("runs").error]


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


VALUES = f"more than {SHARED_LIMITS.values_per_import:,} values together"
KEPT = f"at most {SHARED_LIMITS.record_kb:,},000 are imported"
ANSWER = {"place": 0, "reference": "", "text": "", "ended": True}
TRUNCATED = {"loss": 2.0, "tokens": 9, "examples": 3, "seconds": 1.0, "example_losses": [2.0] * 3}


def one_run(name, events):
    return runs_zip((name, run_files(name, events=events)))


def letters(number, seed):
    """So many, which no packing makes 200 times shorter."""
    return random.Random(seed).choices(string.ascii_letters, k=number)


def events(number, kind, fields):
    """So many more lines of this event, each with the fields of its number."""
    return added(*(json.dumps({"event": kind, "time": 5.0, **fields(each)}) for each in range(number)))


def modules(number):
    """Of which the last line has few, and is the one that is kept."""
    return {"environment": {"target_modules": letters(9990 if number < 150 else 7, number)}}


def versions(number):
    return {"environment": {"versions": dict(enumerate(letters(199, number)))}}


def answers(number):
    return {"when": "after", "seconds": 1, "answers": [ANSWER | {"prompt": each} for each in letters(100, number)]}


LONG_TO_READ = {
    "150 lines of 9,990 modules": lambda name: one_run(name, events(151, "RunStarted", modules)),
    "3,000 lines of 199 versions": lambda name: one_run(name, events(3000, "RunStarted", versions)),
    "2,000 lines of 100 answers": lambda name: one_run(name, events(2000, "Answered", answers)),
    "16 evaluations of 80,000 losses": lambda name: measured(name, 8, example_losses=[2] * 80_000),
    "60 runs of 100,000 matches": lambda name: measured(name, 60, example_exact_matches=[1, 0] * 50_000),
}
LARGE_TO_KEEP = {
    "9,990 modules": line("RunStarted", environment={"target_modules": [f"module_{n}" for n in range(9990)]}),
    "195 texts": line("RunStarted", environment={f"text_{n}": "x" * 1000 for n in range(195)}),
    "1,000 truncations": events(1000, "AdapterCut", lambda number: TRUNCATED | {"r": number + 1}),
}


@pytest.mark.parametrize("much", first_quick(LONG_TO_READ))
def test_a_zip_that_is_long_to_read_brings_nothing(during, ann, name, much):
    """Such were read in seconds by the page itself, which answered nobody meanwhile; verdicts on them took 0.5 GB."""
    data = LONG_TO_READ[much](name)

    answer = during(lambda: imported(ann, data))

    assert VALUES in answer
    assert name not in ann.endpoint("runs").text


@pytest.mark.slow
@pytest.mark.parametrize("much", LARGE_TO_KEEP)
def test_a_run_that_is_large_to_keep_is_not_imported(during, ann, name, much):
    """0.9 MB of the page's memory for each run."""
    data = one_run(name, LARGE_TO_KEEP[much])

    answer = during(lambda: imported(ann, data))

    assert KEPT in answer
    assert name not in ann.endpoint("runs").text


@pytest.mark.slow
def test_a_zip_as_long_as_may_be_keeps_nobody_waiting(during, ann, name):
    data = measured(name, 6, example_losses=[2] * 80_000)

    answer = during(lambda: (imported(ann, data), ann.endpoint("runs").text))

    assert name in answer[1]
