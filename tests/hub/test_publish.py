"""A folder as one commit on the Hub: each way in which that can fail is one sentence, and none has the token."""

import pytest
from huggingface_hub import HfApi

from rankviz.errors import HubUnavailableError, PublishError
from rankviz.hub.publish import MARK, is_private_space, publish
from tests.support.engines.hub_stand_in import TOKEN, Repository, hub_stand_in


@pytest.fixture(scope="module")
def running():
    with hub_stand_in() as hub:
        yield hub


@pytest.fixture
def hub(running):
    running.repositories.clear()
    running.faults.clear()
    return running


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text("# Ranks\n")
    return tmp_path


def put(hub, folder, *, made_of="s1", public=False, name="alice/ranks"):
    api = HfApi(endpoint=hub.url, token=TOKEN)
    return publish(folder, name, "dataset", made_of=made_of, public=public, token=TOKEN, api=api)


@pytest.mark.parametrize(
    ("part", "status", "error", "sentence"),
    [
        ("/api/datasets", 401, PublishError, "does not accept this token: it is wrong, or has expired"),
        ("/api/repos/create", 403, PublishError, "token may not do this in alice: it needs the right to write there"),
        ("/api/repos/create", 404, PublishError, "The Hub has no alice, or the token may not see alice/ranks"),
        ("/commit/", 412, PublishError, "was made or changed by somebody else meanwhile. Try again"),
        ("/commit/", 507, PublishError, "no room for this in alice's storage"),
        ("/commit/", 400, PublishError, "The Hub refuses this (status 400)"),
        ("/api/datasets", 503, HubUnavailableError, "cannot take this now (status 503). Try again"),
    ],
)
def test_each_refusal_of_the_hub_is_one_sentence_without_the_token(hub, folder, part, status, error, sentence):
    hub.faults[part] = (status, f"said {TOKEN} to you")

    with pytest.raises(error) as refusal:
        put(hub, folder)

    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert TOKEN not in str(refusal.value)


def test_a_repository_is_one_commit_with_a_mark_of_what_it_was_made_of(hub, folder):
    put(hub, folder)

    there = hub.repositories["datasets/alice/ranks"]
    assert ["RankViz: s1"] == there.commits
    assert {".gitattributes", "README.md", MARK} == there.files.keys()


def test_a_private_repository_stays_private_when_it_is_updated_as_public(hub, folder):
    put(hub, folder)

    assert put(hub, folder, public=True)["private"]


@pytest.mark.parametrize(("owner", "private"), [("alice", True), ("Alice", False), ("lab", None)])
def test_a_space_of_the_account_or_of_its_organization_is_there_or_not(hub, monkeypatch, owner, private):
    monkeypatch.setitem(hub.owners, TOKEN, {"alice", "lab", "Alice"})
    if private is not None:
        hub.repositories[f"spaces/{owner}/board"] = Repository(private=private)

    assert private == is_private_space(f"{owner}/board", TOKEN, HfApi(endpoint=hub.url, token=TOKEN))


@pytest.mark.parametrize("there", [True, False])
def test_the_program_of_a_space_of_another_account_is_not_given_the_token(hub, there):
    if there:
        hub.repositories["spaces/mallory/board"] = Repository(private=False)

    with pytest.raises(PublishError, match="mallory/board is of another account, whose program would get your token"):
        is_private_space("mallory/board", TOKEN, HfApi(endpoint=hub.url, token=TOKEN))
