"""Uploads, downloads and exports of visitors: counted, used up and removed, and what others read of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import Answered, GreedyAnswer, RunFailed
from rankviz.errors import InvalidSettingError, LimitError
from rankviz.paths import bytes_in
from rankviz.references import PRIVATE
from rankviz.shared.quota import Held
from rankviz.store import export_runs
from rankviz.visitor import acting_as
from tests.attacks.payloads import run_files, runs_zip
from tests.catalog.test_own_studies import result
from tests.support.limits import limit
from tests.support.web.kept import first_run, sweep_of
from tests.support.web.visitors import ANN, BEN


def test_a_visitor_deletes_what_is_left_of_theirs_and_no_others(shared, sent):
    api = shared()
    mine = [sent(api, ANN, name, name.encode()) for name in ("a.json", "chats.jsonl")]
    bens, both = sent(api, BEN, "b.json", b"b"), sent(api, BEN, "both.json", b"both")
    sent(api, ANN, "both.json", b"both")

    with acting_as(ANN):
        assert (3, 6 + 11 + 4) == api.runs.quota.uploads()
        assert (3, 6 + 11 + 4) == api.runs.quota.delete_uploads()
        assert (0, 0) == api.runs.quota.uploads() == api.runs.quota.delete_uploads()

    assert not any(path.parent.exists() for path in mine)
    assert bens.exists() and both.exists()
    with acting_as(BEN):
        assert (2, 5) == api.runs.quota.uploads()
    assert not api.workspace.temp.owns(both, ANN)


def a_zip(name):
    return runs_zip((name, run_files(name)))


def test_of_several_imports_of_one_upload_at_once_one_takes_it_in_and_nothing_is_remembered_of_the_others(shared, sent):
    api = shared()

    def bring(path):
        with acting_as(ANN):
            try:
                return api.runs.import_(path)
            except InvalidSettingError as error:
                return str(error)

    with ThreadPoolExecutor(3) as pool:
        answers = [*pool.map(bring, [sent(api, ANN, "runs.zip", a_zip("s"))] * 3)]

    (run_ids,) = (answer for answer in answers if not isinstance(answer, str))
    assert all(answer.startswith((PRIVATE, "There is no file ")) for answer in answers if answer is not run_ids)
    with acting_as(ANN):
        api.runs.delete(*run_ids)
        assert run_ids == api.runs.import_(sent(api, ANN, "runs.zip", a_zip("s")))


def test_a_file_of_ones_own_machine_is_never_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    api = Api(home=tmp_path / "home", shared=False)
    runs, study = tmp_path / "page" / "mine" / "runs.zip", tmp_path / "page" / "mine" / "study.csv"
    runs.parent.mkdir(parents=True)
    runs.write_bytes(a_zip("s"))
    study.write_text(result())

    api.runs.import_(runs)
    api.studies.add([study])

    assert runs.exists() and study.exists()


@pytest.fixture
def limited(tmp_path, monkeypatch):
    """Makes a shared page with these limits."""

    def make(**limits):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "home" / "tmp" / "page"))
        limit(monkeypatch, **limits)
        return Api(home=tmp_path / "home", shared=True)

    return make


def download(api, visitor, size):
    with acting_as(visitor):
        return api.workspace.download("a.zip", lambda target: target.write_bytes(b"x" * size))


def test_downloads_have_as_much_room_as_a_visitors_files(limited):
    api = limited(files_mb_per_visitor=1)

    last = [download(api, ANN, 400_000) for _ in range(20)][-1]

    assert 800_000 == bytes_in(api.workspace.temp.page)
    assert last.exists()


@pytest.mark.parametrize("limit", ["uploads_per_visitor", "files_mb_per_visitor"])
def test_an_upload_that_is_refused_takes_nobodys_download(limited, limit):
    bens = download(limited(temp_mb=1), BEN, 400_000)
    api = limited(temp_mb=1, **{limit: 0})

    with pytest.raises(LimitError, match="of a visitor"):
        api.workspace.room.hold(Held(ANN, is_upload=True), 900_000, files=1)

    assert bens.exists()


def test_a_zip_that_another_exported_is_imported_under_new_names_with_theirs_here_or_not(api, tmp_path, monkeypatch):
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
    exported = export_runs([api.workspace.store], api.workspace.store.run_ids(sweep_id), tmp_path / "out.zip")
    api.workspace.temp.own(exported, BEN.id)

    with acting_as(BEN):
        (run_id,) = api.runs.import_(exported)

    assert "mine.jsonl" == api.workspace.store.get(run_id).request.data


def test_who_looks_at_the_run_of_another_sees_no_place_of_the_server_and_no_row_of_its_data(api):
    sweep_id = sweep_of(api, BEN, ended=False)
    run_id = first_run(api, sweep_id)
    answer = GreedyAnswer(place=0, prompt="a secret", reference="another", text="a third", ended=True)
    for when in ("before", "after"):
        api.workspace.store.append(run_id, Answered(time=5.0, when=when, answers=(answer,), seconds=1.0))
    failure = {"error": "There is no file '/srv/secret/base.bin' (file:///srv/secret/x), r/s 4", "log_tail": "/srv/log"}
    api.workspace.store.append(run_id, RunFailed(time=5.0, **failure))
    with acting_as(BEN):
        api.runs.open_to_all(sweep_id, True)
        assert failure["log_tail"] == api.runs.get(run_id).log_tail
        assert "a secret" in str(api.runs.row(run_id))

    with acting_as(ANN):
        seen, row = [api.runs.get(run_id), *api.runs.sweep(sweep_id).runs], str(api.runs.row(run_id))

    assert {("There is no file '…/base.bin' (file:…/x), r/s 4", "")} == {(each.error, each.log_tail) for each in seen}
    assert {()} == {each.answers for each in seen}
    assert not [text for text in ("a secret", "another", "a third") if text in row]
