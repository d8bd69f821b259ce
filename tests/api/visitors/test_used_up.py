"""Uploads that were taken in: they go at once, and count no more among those that a visitor may have."""

from concurrent.futures import ThreadPoolExecutor

from rankviz.api import Api
from rankviz.errors import InvalidSettingError
from rankviz.references import PRIVATE
from rankviz.visitor import acting_as
from tests.attacks.payloads import run_files, runs_zip
from tests.catalog.test_result_files import result
from tests.support.web.visitors import ANN


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
    runs, study = tmp_path / "page" / "mine" / "runs.zip", tmp_path / "page" / "mine" / "study.json"
    runs.parent.mkdir(parents=True)
    runs.write_bytes(a_zip("s"))
    study.write_text(result())

    api.runs.import_(runs)
    api.studies.add([study])

    assert runs.exists() and study.exists()
