"""What visitors bring is read in child processes, so that who waits for it keeps nobody else waiting."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from rankviz import children
from rankviz.api import Api
from rankviz.children import MAX_OF_A_VISITOR, Bounds, Children
from rankviz.core.cost.question import Question
from rankviz.errors import BusyError, InvalidSettingError, RankVizError, WorkerError
from rankviz.visitor import Visitor, acting_as
from tests.support.models.saved_adapters import two_blocks
from tests.support.processes.workers import wait_for

ANNA, BEN = Visitor("anna"), Visitor("ben")


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
        with acting_as(ANNA):
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
    for visitor in (ANNA, ANNA, BEN):
        path = tmp_path / visitor.id / "runs.zip"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PK" + b"\0" * 100)
        api.workspace.temp.own(path, visitor.id)
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        with acting_as(visitor), pytest.raises(InvalidSettingError, match="cannot be read as a RankViz export"):
            api.runs.import_(path)

    assert ["import"] == ran
