"""What the environment of a server may say."""

import pytest

from rankviz.errors import InvalidSettingError
from rankviz.settings import Limits, Settings, read


@pytest.mark.parametrize("name", ["COOKIE_KEY", "ADMIN_TOKEN", "ENGINE", "JOBS_IMAGE"])
def test_bytes_that_are_no_text_are_refused_by_the_name_of_the_variable(monkeypatch, name):
    monkeypatch.setenv(f"RANKVIZ_{name}", "abc\udcff")

    with pytest.raises(InvalidSettingError, match=f"RANKVIZ_{name} has bytes that are no text"):
        read(Settings)


def test_a_secret_may_have_any_letters(monkeypatch):
    monkeypatch.setenv("RANKVIZ_COOKIE_KEY", "Schlüssel 鍵")

    assert "Schlüssel 鍵" == read(Settings).cookie_key.get_secret_value()


def test_a_limit_that_is_no_number_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("RANKVIZ_MAX_STEPS", "many")

    with pytest.raises(InvalidSettingError, match="RANKVIZ_MAX_STEPS cannot be 'many'"):
        read(Limits)
