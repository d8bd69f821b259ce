"""Studies that visitors of a shared page add, each for themselves."""

import sys
import threading
from contextlib import nullcontext

import pytest

from rankviz.api import Api
from rankviz.catalog import own_studies
from rankviz.errors import RankVizError
from rankviz.ui.explore.sections import removed
from rankviz.visitor import HOST, NOBODY, Visitor, acting_as
from tests.catalog.test_own_studies import result

VISITORS = [Visitor(name * 16) for name in "abcd"]


@pytest.fixture
def api(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    return Api(home=tmp_path / "home", shared=True)


def uploaded(api, visitor, name="mine.csv"):
    """A result file that a visitor has uploaded."""
    path = api.workspace.temp.page / visitor.id / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result())
    api.workspace.temp.own(path, visitor.id)
    return path


def experiments(api):
    return {point.experiment for point in api.studies.all().points if point.study_id.startswith("added_")}


def test_visitors_who_ask_at_once_get_their_own_studies_each(api):
    for visitor in VISITORS:
        file = uploaded(api, visitor, f"{visitor.id}.csv")
        with acting_as(visitor):
            own_studies.keep(api.workspace.own_homes, [own_studies.read(file)])
    wrong = []

    def ask(visitor):
        with acting_as(visitor):
            for _ in range(300):
                if experiments(api) != {f"{visitor.id}.csv"}:
                    wrong.append(visitor)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(visitor,)) for visitor in VISITORS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert [] == wrong


@pytest.fixture
def hosts(api):
    """The result file of whoever owns the server."""
    with acting_as(HOST):
        own_studies.keep(api.workspace.own_homes, [own_studies.read(uploaded(api, VISITORS[0]))])
        (name,) = api.studies.added()
    return name


@pytest.mark.parametrize("visitor", [NOBODY, None, VISITORS[1]])
def test_nobody_but_its_owner_reads_or_removes_a_result_file(api, hosts, visitor):
    with nullcontext() if visitor is None else acting_as(visitor):
        assert [] == list(api.studies.added())
        assert not experiments(api)
        with pytest.raises(RankVizError):
            api.studies.remove(hosts)
        assert "Removed 0 result files." in removed(api)

    with acting_as(HOST):
        assert [hosts] == list(api.studies.added())
        assert experiments(api)
