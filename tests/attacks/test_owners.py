"""What one visitor can do to the sweeps of another: look by the address where that is allowed, and nothing else."""

import json
import re
import zipfile

import pytest

from tests.attacks.payloads import run_files, runs_zip
from tests.attacks.spaces import ADMIN_TOKEN
from tests.attacks.test_imports import imported
from tests.support.web.stranger import Stranger

BUTTONS = ("sweep-cancel", "sweep-resume", "sweep-add", "sweep-export", "sweep-ship", "cancel-run")
TRAIN_BUTTONS = ("train-cancel",)
FORGED = ("0" * 32, "admin", "", "x" * 5000, "a.b.c", "\u00e9", "ann.", ".", "0" * 32 + "." + "A" * 43)
HEADERS = ({"x-forwarded-user": "admin"}, {"x-forwarded-for": "127.0.0.1"}, {"authorization": "Bearer x"})
TOKENS = (ADMIN_TOKEN[:-1], "", "x", ADMIN_TOKEN + " ", ADMIN_TOKEN.upper(), "A" * 10**5)


def sweeps_of(stranger):
    answer = stranger.endpoint("runs")
    assert not answer.error
    return json.dumps(answer.data)


def gives(answer, name):
    """Whether a button did something to these runs. A page whose sweep it may not see shows a recorded one instead,
    which everybody may download."""
    if answer.error:
        return False
    files = [each["path"] for each in answer.data or [] if isinstance(each, dict) and each.get("path")]
    return not files or any(name in member for path in files for member in zipfile.ZipFile(path).namelist())


def test_a_sweep_is_its_owners(during, ann, ben, name):
    imported(ben, runs_zip((name, run_files(name))))
    assert name in sweeps_of(ben)

    def attack():
        ann.load(f"?tab=runs&sweep={name}-sweep&run={name}")
        pressed = {button: ann.press(button) for button in BUTTONS}
        ann.load(f"?tab=train&sweep={name}-sweep")
        return pressed | {button: ann.press(button) for button in TRAIN_BUTTONS}

    done = during(attack)

    assert [] == [button for button, answer in done.items() if gives(answer, name)]
    assert name in sweeps_of(ben)
    assert name not in sweeps_of(ann)
    assert ann.endpoint("run", name).error


def test_an_import_cannot_take_or_join_the_sweep_of_another(during, ann, ben, name):
    imported(ben, runs_zip((f"{name}-1", run_files(f"{name}-1", name))))
    before = ben.endpoint("run", f"{name}-1").text

    def attack():
        for run_id, sweep_id in ((f"{name}-1", name), (name, name), (f"{name}-2", name), (f"{name}-2", f"{name}-1")):
            imported(ann, runs_zip((run_id, run_files(run_id, sweep_id, loss=0.00123))))

    during(attack)

    assert before == ben.endpoint("run", f"{name}-1").text
    theirs = sweeps_of(ben)
    assert not re.search(rf'"{name}(-[0-9a-f]{{8}})?-2"', theirs)  # under its own name, or that of who imports it
    assert "0.00123" not in theirs


@pytest.mark.slow
def test_no_forged_cookie_header_or_token_makes_anybody_an_owner(space, during, ann, ben, name):
    """Nor the id of the other with a signature of one's own."""
    imported(ben, runs_zip((name, run_files(name))))
    (mine, theirs) = (next(each for each in of.http.cookies.jar if "visitor" in each.name) for of in (ann, ben))
    signed = f"{theirs.value.partition('.')[0]}.{mine.value.partition('.')[2]}"

    def attack():
        for cookie in (signed, *FORGED):
            forger = Stranger(space.url)
            forger.http.cookies.clear()
            forger.http.headers = [(b"cookie", f"{theirs.name}={cookie}".encode("latin-1"))]
            yield sweeps_of(forger)
        for token in TOKENS:
            ann.http.post("/rankviz/admin", data={"token": token})
            yield sweeps_of(ann)
        for headers in HEADERS:
            ann.http.headers.update(headers)
            yield sweeps_of(ann)

    assert [] == [answer for answer in during(lambda: list(attack())) if name in answer]


def test_the_session_of_another_visitor_gives_nothing(during, ann, ben, name):
    """A session hash is an address of a page, and no proof of who asks."""
    imported(ben, runs_zip((name, run_files(name))))
    ben.load(f"?tab=runs&sweep={name}-sweep")
    ann.session = ben.session

    answers = during(lambda: [ann.press(button) for button in BUTTONS])

    assert [] == [answer for answer in answers if gives(answer, name)]


def test_queued_sweeps_of_one_visitor_have_an_end(during, ann, name):
    """Two hundred presses of Train; what is queued is cancelled again."""

    def attack():
        return [ann.press("train-button", train_steps=2).error for _ in range(30)]

    refused = during(attack)
    queued = [row for row in json.loads(sweeps_of(ann))[0]]
    for row in queued:
        ann.load(f"?tab=runs&sweep={row['sweep_id']}")
        ann.press("sweep-cancel")

    assert 28 <= len([error for error in refused if error])
    assert any("2" in error for error in refused)


def test_the_name_of_a_session_or_event_gives_no_answer_of_it(during, ann, ben, name):
    """Read, ended or held open by another visitor, the answers come to who asked."""
    imported(ben, runs_zip((name, run_files(name))))

    def attack():
        event = ben.http.post("/gradio_api/call/v2/run", json={"run_id": name}).json()["event_id"]
        body = {"data": [name], "fn_index": ben.events.api("run"), "session_hash": ben.session}
        joined = ben.http.post("/gradio_api/queue/join", json=body).json()["event_id"]
        cancel = {"session_hash": ben.session, "fn_index": body["fn_index"], "event_id": joined}
        return [
            ann.http.get(f"/gradio_api/call/run/{event}").text,
            ann.http.post("/gradio_api/cancel", json=cancel).text,
            ann.http.get(f"/gradio_api/heartbeat/{ben.session}").text,
            ann.http.get("/gradio_api/queue/data", params={"session_hash": ben.session}).text,
            ben.http.get(f"/gradio_api/call/run/{event}").text,
        ]

    *theirs, answer = during(attack)

    assert [] == [text for text in theirs if name in text]
    assert name in answer
    assert name in ben.endpoint("run", name).text
