"""Bases that others have trained: they make room, and those that somebody waits for stay."""

import shutil
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.hub import reach
from rankviz.visitor import acting_as
from tests.support.runs import questions
from tests.support.web.hub_cache import put, repositories
from tests.support.web.kept import ended, imported, sweeps_here, upload_of
from tests.support.web.visitors import ANN, BEN

MB = 10**6
HOUR = 3600
"""In seconds."""
LOW = questions.sweep(ranks=(1,), max_steps=2)
"""Whose adapter takes 1.2 MB."""


@pytest.fixture
def page(shared, tmp_path, monkeypatch):
    """Makes a shared page that keeps bases below its runs folder, with limits."""
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.delenv("HF_HUB_CACHE")

    def make(**limits):
        api = shared(**limits)
        reach.use_own(api.workspace.home)
        return api

    return make


def test_bases_that_nobody_waits_for_make_room_and_those_of_queued_runs_stay(page, tmp_path):
    api, hub = page(disk_mb=8), tmp_path / "home" / "hub"
    put(hub, "HuggingFaceTB/SmolLM2-360M", 3 * MB, age=4 * HOUR)
    put(hub, "someone/old", 3 * MB, age=2 * HOUR)
    put(hub, "someone/older", 3 * MB, age=3 * HOUR)
    api.workspace.store.create(questions.sweep(base="smollm2-360m", ranks=(1,)), BEN.id)

    with acting_as(ANN):
        api.runs.start(LOW)

    assert ["HuggingFaceTB/SmolLM2-360M", "someone/old"] == repositories(hub)


def test_what_is_refused_makes_no_room(page, tmp_path, uploaded):
    api, hub = page(disk_mb=2, files_mb_per_visitor=1), tmp_path / "home" / "hub"
    put(hub, "someone/old", 3 * MB, age=2 * HOUR)
    copy = imported(api, ended(api.workspace.store, BEN.id, 4))

    def is_all_here():
        return ["someone/old"] == repositories(hub) and copy in sweeps_here(api)

    with acting_as(ANN):
        junk = uploaded(api, ANN, 1)
        with pytest.raises(InvalidSettingError, match="cannot be read as a RankViz export"):
            api.runs.import_(junk)
        assert is_all_here()
        with pytest.raises(LimitError, match="at most 1 MB of a visitor's files"):
            api.runs.start(replace(LOW, data=uploaded(api, ANN, 2000)))
        assert is_all_here()

    trained = ended(api.workspace.store, BEN.id, 8)
    (api.workspace.store.run_dir(api.workspace.store.run_ids(trained)[0]) / "adapter.bin").write_bytes(b"x" * 3 * MB)
    with acting_as(ANN), pytest.raises(LimitError, match="more than the 2 MB that it allows"):
        api.runs.start(LOW)
    assert is_all_here()


def test_an_import_makes_room_once_it_is_there(page, tmp_path):
    api, hub = page(disk_mb=2), tmp_path / "home" / "hub"
    exported = upload_of(ended(api.workspace.store, BEN.id, 4), api, api.workspace.temp.page)
    copy = imported(api, ended(api.workspace.store, BEN.id, 8))
    put(hub, "someone/old", 3 * MB, age=2 * HOUR)

    with acting_as(ANN):
        (run_id,) = api.runs.import_(exported)

    assert ([], {copy, api.workspace.store.record(run_id).request.sweep_id}) == (repositories(hub), sweeps_here(api))


def test_where_the_disk_has_little_room_bases_go_by_themselves(page, tmp_path, monkeypatch):
    api, hub = page(), tmp_path / "home" / "hub"
    put(hub, "someone/old", 1000, age=2 * HOUR)
    put(hub, "someone/new", 1000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "rankviz.shared.quota.shutil.disk_usage",
        lambda folder: usage._replace(free=10**9 if len(repositories(hub)) == 2 else 10**12),
    )

    api.runs.quota.make_room_on_disk()

    assert ["someone/new"] == repositories(hub)


def test_on_ones_own_machine_no_base_ever_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_MAX_DISK_MB", "3")
    home = tmp_path / "home"
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    put(home / "hub", "someone/old", 3 * MB, age=2 * HOUR)
    api = Api(home=home, shared=False)

    with pytest.raises(LimitError):
        api.runs.start(LOW)

    assert ["someone/old"] == repositories(home / "hub")
