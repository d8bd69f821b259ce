import pytest

from rankviz.store.temp import TempHome


@pytest.fixture
def temp(tmp_path, monkeypatch):
    home = TempHome(tmp_path / "home")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(home.folder / "page"))
    return home
