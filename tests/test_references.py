"""What a reference may mean, on a machine of one's own and on a shared page, and what it is as a path."""

import json

import pytest

from rankviz import paths
from rankviz.api import Api
from rankviz.errors import BadDataError, InvalidSettingError, RankVizError, UnknownModelError
from rankviz.references import PRIVATE, References
from rankviz.visitor import HOST, NOBODY, SERVER, Visitor, acting_as, data_folder
from tests.support.models.saved_adapters import named_as_base
from tests.support.web.kept import sweep_of

ANNA, BEN, ADMIN = Visitor("anna"), Visitor("ben"), Visitor("boss", admin=True)
ROWS = '{"prompt": "a", "completion": "b"}\n' * 3
CONFIG = json.dumps({"model_type": "llama"})


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


def of(visitor, home):
    return References(home, stranger=lambda: visitor, own_upload=lambda path, _: "uploads" == path.parent.name)


@pytest.fixture
def there(tmp_path, uploads, monkeypatch):
    """A folder in which owner/name, secret.jsonl and .hidden are real, as the working directory and the home."""
    place = tmp_path / "place"
    for folder in (place / "owner" / "name", place / "home" / "runs", place / "home" / "data" / ("0" * 16)):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(CONFIG)
        (folder / "secret.jsonl").write_text(ROWS)
    (place / "secret.jsonl").write_text(ROWS)
    (uploads / "link.jsonl").symlink_to(place / "secret.jsonl")
    (uploads / "folder").symlink_to(place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    return place


def every_spelling(place, uploads):
    """Ways to write the path of place/secret.jsonl and of folders beside it."""
    name = place.name
    return [
        str(place / "secret.jsonl"),
        f"{place}//secret.jsonl",
        f"{place}/./secret.jsonl",
        f"{place}/owner/../secret.jsonl",
        f"{uploads}/../place/secret.jsonl",
        f"{uploads}/folder/secret.jsonl",
        str(uploads / "link.jsonl"),
        "./secret.jsonl",
        f"../{name}/secret.jsonl",
        "..",
        ".",
        "~",
        "~/secret.jsonl",
        f"~/../{name}/secret.jsonl",
        "~root/.ssh",
        "$HOME/secret.jsonl",
        "${HOME}/secret.jsonl",
        f"file://{place}/secret.jsonl",
        f"FILE:{place}/secret.jsonl",
        f"{place}/",
        f"{place}/owner/name",
        "owner/name/",
        "owner/name/config.json",
        "owner/../owner/name",
        "owner\\name",
        str(place / "home" / "runs"),
        str(place / "home" / "data" / ("0" * 16) / "secret.jsonl"),
        "/proc/self/environ",
        "/etc/passwd",
    ]


def test_a_stranger_reads_no_path_however_it_is_written(there, uploads):
    known = of(ANNA, there / "home")

    for ref in every_spelling(there, uploads):
        for read in (known.path, known.model, known.data, known.file):
            with pytest.raises((InvalidSettingError, BadDataError)) as refused:
                read(ref)
            assert PRIVATE == str(refused.value), ref


def test_whether_a_path_is_there_changes_no_answer(there):
    known = of(ANNA, there / "home")

    for ref, gone in (("secret.jsonl", "other.jsonl"), (str(there), f"{there}2"), ("~/owner", "~/other")):
        answers = []
        for each in (ref, gone):
            with pytest.raises(RankVizError) as refused:
                known.data(each)
            answers.append(str(refused.value).replace(each, "?"))
        assert answers[0] == answers[1]


def test_kept_data_belongs_to_whose_runs_it_is(tmp_path):
    kept = data_folder(tmp_path, ANNA.id) / ("0" * 16) / "mine.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text(ROWS)

    assert kept == of(ANNA, tmp_path).data(kept).path == of(ADMIN, tmp_path).data(kept).path
    for other in (BEN, Visitor("")):
        with pytest.raises(InvalidSettingError, match="shared"):
            of(other, tmp_path).data(kept)


def test_an_upload_belongs_to_one_visitor(tmp_path, uploads):
    (uploads / "mine.jsonl").write_text(ROWS)

    def data(visitor):
        known = References(tmp_path, stranger=lambda: visitor, own_upload=lambda _, asking: asking == ANNA)
        return known.data(str(uploads / "mine.jsonl"))

    assert data(ANNA).path
    for other in (BEN, ADMIN, NOBODY):
        with pytest.raises(InvalidSettingError, match="shared"):
            data(other)


def test_on_a_shared_page_its_host_alone_names_files_of_the_machine(there):
    api, rows = Api(home=there / "home", shared=True), str(there / "secret.jsonl")

    with acting_as(HOST):
        assert rows == api.workspace.references.data(rows).text
        assert 3 == api.data.measure(rows).training.examples
    for visitor in (ANNA, ADMIN, SERVER, NOBODY):
        with acting_as(visitor), pytest.raises(InvalidSettingError, match="This page is shared"):
            api.workspace.references.data(rows)


def test_a_shared_page_reads_no_file_that_the_run_of_a_visitor_names_to_say_how_long_others_take(there, monkeypatch):
    """A run that was imported names what it likes."""
    api = Api(home=there / "home", shared=True)
    (run,) = api.workspace.store.sweep(sweep_of(api, ANNA, 4, base=str(there / "owner" / "name"))).runs
    opened = []
    monkeypatch.setattr("rankviz.references.existing", lambda text: opened.append(text))

    with acting_as(BEN):
        assert api.estimates.measured._timing(run) is None

    assert [] == opened


@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("https://huggingface.co/microsoft/phi-4", "microsoft/phi-4"),
        ("https://huggingface.co/microsoft/phi-4/tree/main?library=peft", "microsoft/phi-4"),
        ("http://HuggingFace.co/MICROSOFT/Phi-4/", "MICROSOFT/Phi-4"),
        ("hf.co/Qwen/Qwen3-4B", "Qwen/Qwen3-4B"),
        ("  microsoft/PHI-4 ", "microsoft/PHI-4"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1"),
        ("https://huggingface.co/deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1"),
    ],
)
@pytest.mark.parametrize("visitor", [None, ANNA])
def test_an_id_or_an_address_of_the_hub_is_that_model_and_no_other(there, written, model, visitor):
    assert model == of(visitor, there / "home").model(written).text


@pytest.mark.parametrize("written", ["phi-4", "https://example.com/microsoft/phi-4", "mini"])
def test_a_name_that_no_single_model_has_is_not_known(there, written):
    with pytest.raises(UnknownModelError, match="in the catalogue"):
        of(None, there / "home").model(written)


def test_a_visitors_config_is_a_model_and_no_base(tmp_path):
    """What a worker would refuse. Nor is data that the visitor's runs keep."""
    config, kept = tmp_path / "uploads/config.json", data_folder(tmp_path, ANNA.id) / "0123456789abcdef/rows.jsonl"
    for file in (config, kept):
        file.parent.mkdir(parents=True)
        file.touch()
        assert file == of(ANNA, tmp_path).model(str(file)).path
        with pytest.raises(InvalidSettingError, match="Give the base as a Hub id"):
            of(ANNA, tmp_path).base(str(file))


@pytest.mark.parametrize("visitor", [ANNA, None])
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
    with pytest.raises(InvalidSettingError, match="no weights to train"):
        of(None, tmp_path).base(str(folder / "config.json"))


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
