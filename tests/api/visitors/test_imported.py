"""Whose an imported run is, under which name, and what is a copy."""

import pytest

from rankviz.errors import InvalidSettingError
from rankviz.store import export_runs
from rankviz.visitor import acting_as
from tests.api.visitors.owned import sweep_of
from tests.support.web.visitors import ANN, BEN


def test_a_zip_that_another_exported_is_imported_under_new_names_whether_theirs_are_here_or_not(
    api, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    sweep_id = sweep_of(api, ANN, 4, 8)
    with acting_as(ANN):
        exported = api.runs.export([sweep_id], tmp_path / "out.zip")
    api.workspace.temp.own(exported, BEN.id)

    with acting_as(BEN):
        copied = api.runs.import_(exported)
        with pytest.raises(InvalidSettingError, match=f"{copied[0]!r} is here already"):
            api.runs.import_(exported)
        api.runs.delete(api.runs.get(copied[0]).request.sweep_id)
    with acting_as(ANN):
        api.runs.delete(sweep_id)
    with acting_as(BEN):
        assert copied == api.runs.import_(exported)
        (copy,) = api.runs.sweeps()
        assert [4, 8] == [run.request.r for run in copy.runs]
        assert sweep_id != copy.sweep_id


def test_an_imported_run_names_its_data_without_the_place_of_another(api, tmp_path, monkeypatch):
    """In a zip that a host or an earlier version made."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    sweep_id = sweep_of(api, ANN, data="/mnt/ann/mine.jsonl")
    exported = export_runs([api.workspace.store], [sweep_id], tmp_path / "out.zip")
    api.workspace.temp.own(exported, BEN.id)

    with acting_as(BEN):
        (run_id,) = api.runs.import_(exported)

    assert "mine.jsonl" == api.workspace.store.get(run_id).request.data
