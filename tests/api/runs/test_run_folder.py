"""Where a run and its adapter lie, for those who may know."""

from rankviz.api import Api
from rankviz.api.runs import run_json
from rankviz.visitor import acting_as
from tests.support.runs.finished_runs import finished
from tests.support.web.visitors import ANN


def test_a_run_says_where_it_and_its_adapter_lie(tmp_path):
    api = Api(home=tmp_path)
    run = finished(api, {8: 2.0}).runs[0]
    folder = api.workspace.store.run_dir(run.run_id)

    assert folder == api.runs.summary(run.run_id).folder
    assert api.runs.summary(run.run_id).adapter_folder is None  # deleted, or imported without it
    (folder / "adapter").mkdir()
    assert folder / "adapter" == api.runs.summary(run.run_id).adapter_folder
    assert str(folder / "adapter") == run_json(api.runs.summary(run.run_id))["adapter_folder"]


def test_a_shared_page_shows_no_path_of_its_machine(tmp_path):
    api = Api(home=tmp_path, shared=True)
    with acting_as(ANN):
        run = finished(api, {8: 2.0}).runs[0]
        (api.workspace.store.run_dir(run.run_id) / "adapter").mkdir()

        summary = api.runs.summary(run.run_id)

    assert (None, None) == (summary.folder, summary.adapter_folder)
    assert str(tmp_path) not in str(run_json(summary))
