"""A visitor who asks for downloads again and again has no more on the disk than one who asks once in a while."""

import pytest

from rankviz.api import Api
from rankviz.errors import LimitError
from rankviz.paths import bytes_in
from rankviz.shared.quota import Held
from rankviz.visitor import acting_as
from tests.support.limits import limit
from tests.support.web.visitors import ANN, BEN


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Makes a shared page with these limits."""

    def make(**limits):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "home" / "tmp" / "page"))
        limit(monkeypatch, **limits)
        return Api(home=tmp_path / "home", shared=True)

    return make


def download(api, visitor, size):
    with acting_as(visitor):
        return api.workspace.download("a.zip", lambda target: target.write_bytes(b"x" * size))


def test_downloads_have_as_much_room_as_a_visitors_files(shared):
    api = shared(files_mb_per_visitor=1)

    last = [download(api, ANN, 400_000) for _ in range(20)][-1]

    assert 800_000 == bytes_in(api.workspace.temp.page)
    assert last.exists()


@pytest.mark.parametrize("limit", ["uploads_per_visitor", "files_mb_per_visitor"])
def test_an_upload_that_is_refused_takes_nobodys_download(shared, limit):
    bens = download(shared(temp_mb=1), BEN, 400_000)
    api = shared(temp_mb=1, **{limit: 0})

    with pytest.raises(LimitError, match="of a visitor"):
        api.workspace.room.hold(Held(ANN, is_upload=True), 900_000, files=1)

    assert bens.exists()
