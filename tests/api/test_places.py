"""Who waits for whom on a shared page: starts of one visitor keep nobody from starting, and no start keeps anybody from
ending, deleting or sharing what is theirs."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest

from rankviz import children
from rankviz.api import Api
from rankviz.api.workspace import EMBEDDED
from rankviz.children import MAX_OF_A_VISITOR, Bounds, Children
from rankviz.core.cost.question import Question
from rankviz.errors import BusyError, InvalidSettingError, LimitError, RankVizError, WorkerError
from rankviz.visitor import Visitor, acting_as
from tests.support.models.saved_adapters import two_blocks
from tests.support.processes.workers import wait_for
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.support.web import played_hub
from tests.support.web.visitors import ANN, BEN


@pytest.fixture
def api(tmp_path, monkeypatch):
    """Queues and trains nothing."""
    api = Api(home=tmp_path, shared=True)
    monkeypatch.setattr(api.workspace, "work_queue", lambda: None)
    return api


@pytest.fixture
def held(api, monkeypatch):
    """Every start waits in its place until this is set."""
    go_on = Event()

    @contextmanager
    def check_visitor_limits(**_):
        assert go_on.wait(60)
        yield

    monkeypatch.setattr(api.runs.quota, "check_visitor_limits", check_visitor_limits)
    yield go_on
    go_on.set()


def start(api, visitor):
    with acting_as(visitor):
        return api.runs.start(questions.sweep(ranks=(4,)))


def test_many_starts_of_one_visitor_are_refused_at_once_and_another_starts(api, held):
    with ThreadPoolExecutor(31) as pool:
        many = [pool.submit(start, api, ANN) for _ in range(30)]
        wait_for(lambda: 30 - MAX_OF_A_VISITOR == sum(each.done() for each in many))
        others = pool.submit(start, api, BEN)
        wait_for(lambda: api.workspace.start_line.length == MAX_OF_A_VISITOR + 1)
        refused = [each for each in many if each.done()]
        held.set()

        assert others.result(60)
        for each in refused:
            with pytest.raises(LimitError, match=r"one for each visitor\. Try again in a moment"):
                each.result()


def test_who_waits_for_a_model_to_be_read_keeps_nobody_from_starting(api, monkeypatch):
    reading, go_on, read = [], Event(), api.models.get

    def get(ref):
        if ref == "someone/large":
            reading.append(ref)
            assert go_on.wait(60)
        return read(EMBEDDED)

    monkeypatch.setattr(api.models, "get", get)

    def start_a_large_one(number):
        with acting_as(Visitor(f"visitor {number}")):
            api.runs.start(questions.sweep(base="someone/large", ranks=(4,)))

    crowd = api.workspace.start_line.most
    with ThreadPoolExecutor(crowd) as pool:
        for number in range(crowd):
            pool.submit(start_a_large_one, number)
        try:
            wait_for(lambda: len(reading) == crowd)
            assert start(api, BEN)
        finally:
            go_on.set()


def test_who_cancels_deletes_or_shares_waits_for_no_start(api, held):
    with acting_as(BEN):
        sweep_id = finished(api, {4: 2.0}).sweep_id
    with ThreadPoolExecutor(10) as pool:
        for _ in range(MAX_OF_A_VISITOR):
            pool.submit(start, api, BEN)
        wait_for(lambda: api.workspace.start_line.length == MAX_OF_A_VISITOR)

        with acting_as(BEN):
            api.runs.open_to_all(sweep_id, True)
            assert [] == api.runs.cancel(sweep_id)
            assert 1 == len(api.runs.delete(sweep_id))
        held.set()


def test_all_lines_together_leave_threads_to_those_who_only_look(api):
    """Gradio and Starlette share 40."""
    here = api.workspace

    lines = (here.children.line, here.layouts.line, *here.hub.lines, here.start_line, here.change_line)
    assert 38 > sum(line.most for line in lines)


def test_nine_visitors_with_models_to_lay_out_keep_nobody_from_reading_runs_data_or_adapters(api):
    def lay_out(number):
        with acting_as(Visitor(f"v{number}")), api.workspace.layouts.turn():
            go_on.wait(60)

    go_on = Event()
    with ThreadPoolExecutor(9) as pool:
        nine = [pool.submit(lay_out, number) for number in range(9)]
        wait_for(lambda: api.workspace.layouts.line.length == 3 and 6 == sum(each.done() for each in nine))
        with acting_as(BEN), api.workspace.children.turn(patient=False):
            go_on.set()

    refused = [each.exception() for each in nine if each.exception()]
    assert 6 == len(refused)
    assert "lays out at most 1 at once of models" in str(refused[0])


@pytest.mark.parametrize("shared", [True, False])
def test_an_adapter_from_the_hub_lies_among_the_uploads_of_a_shared_page(tmp_path, monkeypatch, shared):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HF_HOME", str(cache))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "home" / "tmp" / "page"))
    api = Api(home=tmp_path / "home", shared=shared)
    with played_hub.answering(monkeypatch, someone__adapter=two_blocks(tmp_path)), acting_as(ANN):
        assert 4 == api.adapters.spectrum("someone/adapter").r

    copies = {path.parents[1].name[:4] for path in api.workspace.temp.page.rglob("*.safetensors")}
    cached = list(cache.rglob("*.safetensors"))
    assert ({"hub-"}, []) == (copies, cached) if shared else (set(), 1) == (copies, len(cached))


def test_the_place_counts_what_goes_first_by_turns_and_the_wait_grows_with_it(api):
    mine = [start(api, ANN) for _ in range(2)]
    theirs = start(api, BEN)

    with acting_as(ANN):
        first, last = map(api.runs.queue_place, mine)
    with acting_as(BEN):
        other = api.runs.queue_place(theirs)

    assert (0, 1, 2) == (first.ahead, other.ahead, last.ahead)
    assert 0 < other.seconds.expected < last.seconds.expected
    assert other.sentence.startswith("Place 2 in the queue: 1 sweep before it. Expected wait: up to ")


def test_while_the_files_of_one_visitor_hang_another_gets_an_estimate(tmp_path):
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    code = (
        f"import os, time; open({str(begun)!r}, 'w').close()\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.02)\nraise SystemExit(9)"
    )
    api = Api(home=tmp_path / "home")
    api.workspace.children = Children(Bounds(seconds=300, memory_bytes=10**9), worker=(sys.executable, "-c", code))
    folders = [two_blocks(tmp_path / str(number)) for number in range(20)]

    def read(folder) -> RankVizError:
        with acting_as(ANN):
            try:
                return api.adapters.spectrum(str(folder))
            except RankVizError as error:
                return error

    with ThreadPoolExecutor(20) as pool:
        reading = [pool.submit(read, folder) for folder in folders]
        try:
            wait_for(begun.exists)
            wait_for(lambda: sum(each.done() for each in reading) == 20 - MAX_OF_A_VISITOR)
            with acting_as(BEN):
                answer = api.estimates.estimate(Question(model_id="Qwen/Qwen3-4B", ranks=(8,)))
            assert [8] == [row.r for row in answer.estimate.ranks]
            assert {BusyError} == {type(each.result()) for each in reading if each.done()}
        finally:
            go_on.touch()

    kinds = [type(each.result()) for each in reading]
    assert (MAX_OF_A_VISITOR, 20 - MAX_OF_A_VISITOR) == (kinds.count(WorkerError), kinds.count(BusyError))


def counting(api, monkeypatch) -> list[str]:
    """The operations of children that are run from now on."""
    ran, run = [], children.run
    monkeypatch.setattr(
        children, "run", lambda command, *args, **kw: ran.append(command[-2]) or run(command, *args, **kw)
    )
    return ran


def test_a_zip_that_could_not_be_read_is_not_read_again_whoever_brings_it(tmp_path, monkeypatch):
    api = Api(home=tmp_path / "home", shared=True)
    ran = counting(api, monkeypatch)
    for visitor in (ANN, ANN, BEN):
        path = tmp_path / visitor.id / "runs.zip"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PK" + b"\0" * 100)
        api.workspace.temp.own(path, visitor.id)
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        with acting_as(visitor), pytest.raises(InvalidSettingError, match="cannot be read as a RankViz export"):
            api.runs.import_(path)

    assert ["import"] == ran
