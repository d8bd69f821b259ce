"""What a visitor has uploaded is theirs to delete."""

from pathlib import Path

import pytest

from rankviz.errors import InvalidSettingError
from rankviz.visitor import acting_as
from tests.api.visitors.test_used_up import a_zip
from tests.support.runs import questions
from tests.support.web.visitors import ANN, BEN


def test_a_visitor_deletes_what_is_left_of_theirs_and_no_others(shared, sent):
    api = shared()
    mine = [sent(api, ANN, name, name.encode()) for name in ("a.json", "chats.jsonl")]
    bens, both = sent(api, BEN, "b.json", b"b"), sent(api, BEN, "both.json", b"both")
    sent(api, ANN, "both.json", b"both")

    with acting_as(ANN):
        assert (3, 6 + 11 + 4) == api.uploads.usage()
        assert (3, 6 + 11 + 4) == api.uploads.delete()
        assert (0, 0) == api.uploads.usage() == api.uploads.delete()

    assert not any(path.parent.exists() for path in mine)
    assert bens.exists() and both.exists()
    with acting_as(BEN):
        assert (2, 5) == api.uploads.usage()
    assert not api.workspace.temp.owns(both, ANN)


def test_an_upload_that_goes_while_it_is_imported_is_taken_in_or_refused_in_a_sentence(shared, sent, monkeypatch):
    api = shared()
    path = sent(api, ANN, "runs.zip", a_zip("s"))
    ask = api.workspace.children.ask

    def asked(*args, **kwargs):
        api.uploads.delete()
        return ask(*args, **kwargs)

    monkeypatch.setattr(api.workspace.children, "ask", asked)
    with acting_as(ANN), pytest.raises(InvalidSettingError, match="There is no file"):
        api.runs.import_(path)


def test_downloads_and_runs_with_their_data_stay(shared, uploaded, tmp_path):
    api = shared()
    (tmp_path / "written").write_text("x")
    download = api.workspace.temp.keep_download(tmp_path / "written", ANN)
    with acting_as(ANN):
        path = uploaded(api, ANN, 20)
        sweep_id = api.runs.start(questions.sweep(ranks=(4,), data=path))

        assert 1 == api.uploads.delete().files

        (run,) = api.runs.sweep(sweep_id).runs
    assert download.is_file()
    assert 20 == len(Path(run.request.data).read_text().splitlines())


def test_an_upload_that_goes_while_its_sweep_waits_to_start_is_asked_for_again(shared, uploaded, monkeypatch):
    api = shared()
    path, turn = uploaded(api, ANN, 20), api.workspace.starts.turn

    def late_turn():
        api.uploads.delete()
        return turn()

    monkeypatch.setattr(api.workspace.starts, "turn", late_turn)
    with acting_as(ANN), pytest.raises(InvalidSettingError, match="no upload of yours that is still here"):
        api.runs.start(questions.sweep(ranks=(4,), data=path))
    assert not api.workspace.store.records()
