"""Which models can be trained: those whose weights are here or on the Hub, decided before anything is queued."""

import pytest

from rankviz.errors import NoWeightsError, UnknownModelError
from rankviz.references import References
from rankviz.visitor import data_folder
from tests.support.models.folders import named_as_base
from tests.support.web.visitors import ANN


def of(visitor, home):
    return References(home, stranger=lambda: visitor, own_upload=lambda path, _: "uploads" == path.parent.name)


def test_a_visitors_config_is_a_model_and_no_base(tmp_path):
    """What a worker would refuse. Nor is data that the visitor's runs keep."""
    config, kept = tmp_path / "uploads/config.json", data_folder(tmp_path, ANN.id) / "0123456789abcdef/rows.jsonl"
    for file in (config, kept):
        file.parent.mkdir(parents=True)
        file.touch()
        assert file == of(ANN, tmp_path).model(str(file)).path
        with pytest.raises(NoWeightsError, match="Give the base as a Hub id"):
            of(ANN, tmp_path).base(str(file))


@pytest.mark.parametrize("visitor", [ANN, None])
@pytest.mark.parametrize("name", ["embedded", "Qwen/Qwen3-4B", "someone/model"])
def test_what_is_shipped_or_on_the_hub_is_a_base_for_everybody(tmp_path, visitor, name):
    assert of(visitor, tmp_path).model(name) == of(visitor, tmp_path).base(name)


@pytest.mark.parametrize(("files", "message"), [([], "no config.json"), (["config.json"], "no weights")])
def test_a_folder_of_ones_own_without_weights_is_no_base(tmp_path, files, message):
    for name in files:
        (tmp_path / name).touch()

    with pytest.raises(UnknownModelError, match=message):
        of(None, tmp_path).base(str(tmp_path))


def test_a_folder_of_ones_own_with_weights_is_a_base_and_its_config_alone_is_none(tmp_path):
    folder = named_as_base(tmp_path)

    assert folder == of(None, tmp_path).base(str(folder)).path
    with pytest.raises(NoWeightsError):
        of(None, tmp_path).base(str(folder / "config.json"))
