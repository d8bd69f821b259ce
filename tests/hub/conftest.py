"""A small model that the real worker has laid out, once a module."""

import pytest

from rankviz.hub.remote import find_model
from tests.hub.layouts import config_file


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """(the folder of a config.json, the cache that holds what the real worker made of it, the model)"""
    folder, cache = tmp_path_factory.mktemp("llama"), tmp_path_factory.mktemp("cache")
    return folder, cache, find_model(config_file(folder), cache=cache)
