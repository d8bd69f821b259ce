"""What a reference is as a path, whatever is written; and the one name of the runs folder."""

import pytest

from rankviz import paths
from rankviz.api import Api
from rankviz.errors import RankVizError

NO_PATHS = ["x" * 300, "x/" * 3000, "~nobody-has-this-name", "a\0b", "\ud800", ""]


@pytest.mark.parametrize("ref", NO_PATHS)
def test_a_model_of_that_name_gets_a_sentence(tmp_path, ref):
    api = Api(home=tmp_path)

    with pytest.raises(RankVizError):
        api.models.get(ref)
    if ref:
        assert api.models.at_hand(ref) is None


@pytest.mark.parametrize("given", ["home", "./home", "link", "../here/link"])
def test_the_runs_folder_has_one_name_however_it_is_given(tmp_path, monkeypatch, given):
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to(here / "home")  # which is not there yet
    monkeypatch.chdir(here)
    monkeypatch.setenv("RANKVIZ_HOME", given)

    for workspace in (Api().workspace, Api(home=given).workspace):
        assert here / "home" == workspace.home == workspace.settings.home == workspace.store.home
        assert here / "home" == workspace.temp.folder.parent
    assert here / "home" == paths.home()
