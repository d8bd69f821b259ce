"""Puts a folder of files on the Hub as one commit, into a new repository or into one made of the same runs.
The file MARK in a repository says what it was made of; a repository without MARK is written into only while it is
empty. Files go over HTTP (LFS) rather than Xet, whose library keeps logs and caches of its own."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rankviz.core.bounds import printable
from rankviz.errors import HubUnavailableError, PublishError, RankVizError, redacted

Kind = Literal["dataset", "model", "space"]
MARK = "rankviz.json"
TIMEOUT_S = 30.0
MAX_MARK_BYTES = 100_000
MAX_HUB_WORDS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRepository:
    """State of a repository after an upload."""

    url: str
    updated: bool
    """True where the repository existed before."""
    private: bool


def publish(
    folder: Path,
    repo_id: str,
    kind: Kind,
    *,
    made_of: str,
    public: bool,
    token: str | None,
    on_stage: Callable[[str], None] = lambda stage: None,
    api: Any = None,
) -> PublishedRepository:
    """Upload a folder.

    Args:
        folder: Folder whose files become those of the repository.
        repo_id: owner/name.
        kind: Kind of the repository.
        made_of: The id of the run or sweep.
        public: True where everybody may see a new repository.
        token: None for the login of this machine.
        on_stage: Called with a description of each step.
        api: huggingface_hub's HfApi with this token, or something that answers like it.

    Raises:
        PublishError: the Hub refuses the upload, or the repository belongs to something else.
        HubUnavailableError: no network, or no answer.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = api or HfApi(token=token)
    names = sorted(path.name for path in folder.iterdir())
    with in_words(repo_id, token):
        on_stage("looking for the repository")
        there = _repository(api, repo_id, kind)
        if there is not None:
            old = _require_ours(api, repo_id, kind, there, made_of)
            require_private(repo_id, bool(there.private), public)
        else:
            on_stage("making the repository")
            old, repo_id = (), api.create_repo(repo_id, repo_type=kind, private=not public).repo_id
        on_stage(f"uploading {len(names)} files")
        mark = {"made_by": "RankViz", "made_of": made_of, "files": [*names, MARK]}
        operations = [
            *(CommitOperationAdd(name, folder / name) for name in names),
            CommitOperationAdd(MARK, json.dumps(mark, indent=1).encode()),
            *(CommitOperationDelete(name) for name in old if name not in mark["files"]),
        ]
        head = there.sha if there else None
        api.create_commit(repo_id, operations, commit_message=f"RankViz: {made_of}", repo_type=kind, parent_commit=head)
    prefix = "" if kind == "model" else f"{kind}s/"
    private = bool(there.private) if there else not public
    return PublishedRepository(url=f"{api.endpoint}/{prefix}{repo_id}", updated=there is not None, private=private)


def is_private_space(repo_id: str, token: str | None, api: Any = None) -> bool | None:
    """Tell whether a Space of the token's account, or of one of its organizations, is private; None where it does not
    exist. Raise PublishError for a Space of others, because its program gets the token. api: as for `publish`."""
    from huggingface_hub import HfApi

    api = api or HfApi(token=token)
    with in_words(repo_id, token):
        account = api.whoami()
        there = _repository(api, repo_id, "space")
    owners = {str(each.get("name")).casefold() for each in (account, *(account.get("orgs") or ()))}
    for name in (repo_id, there.id if there else repo_id):  # one that was moved answers by its old name too
        if name.partition("/")[0].casefold() not in owners:
            raise PublishError(
                f"The Space {name} is of another account, whose program would get your token: choose a Space of yours "
                "or of an organization of yours."
            )
    return bool(there.private) if there else None


def require_private(repo_id: str, private: bool, public: bool) -> None:
    """Raise PublishError where private was chosen for a repository that is public already."""
    if not private and not public:
        raise PublishError(f"{repo_id} is public already, and you chose private: choose public or another name.")


def _repository(api: Any, repo_id: str, kind: Kind) -> Any:
    from huggingface_hub import errors

    try:
        return api.repo_info(repo_id, repo_type=kind, timeout=TIMEOUT_S)
    except errors.RepositoryNotFoundError as error:
        if isinstance(error, errors.GatedRepoError) or error.response.status_code == 401:
            raise  # the token, not the repository
        return None


def _require_ours(api: Any, repo_id: str, kind: Kind, there: Any, made_of: str) -> Sequence[str]:
    """Return the files of an earlier upload of the same runs, or none if empty; raise PublishError for other
    repositories."""
    files = {file.rfilename for file in there.siblings or ()}
    if files <= {".gitattributes"}:
        return ()
    mark: Any = {}
    if MARK in files:
        with tempfile.TemporaryDirectory(prefix="rankviz-") as folder, suppress(ValueError, RecursionError):
            path = Path(api.hf_hub_download(repo_id, MARK, repo_type=kind, revision=there.sha, local_dir=folder))
            mark = json.loads(path.read_bytes()[:MAX_MARK_BYTES])
    mark = mark if isinstance(mark, dict) else {}
    if mark.get("made_by") != "RankViz" or mark.get("made_of") != made_of:
        whose = "was made by RankViz of other runs" if mark.get("made_by") == "RankViz" else "was not made by RankViz"
        raise PublishError(f"{repo_id} is there already and {whose}, so it stays as it is: choose another name.")
    listed = mark.get("files")
    return [name for name in listed if isinstance(name, str) and name in files] if isinstance(listed, list) else []


@contextmanager
def in_words(repo_id: str, token: str | None) -> Iterator[None]:
    """Raise each failure of the Hub within the block as an error with one sentence."""
    from httpx import HTTPError, TimeoutException
    from huggingface_hub import errors

    try:
        yield
    except RankVizError:
        raise
    except errors.LocalTokenNotFoundError:
        raise PublishError(
            "This machine is not logged in at the Hub: run hf auth login, set HF_TOKEN, or give a token."
        ) from None
    except errors.OfflineModeIsEnabled:
        raise HubUnavailableError("HF_HUB_OFFLINE is set, so nothing can be published: unset it.") from None
    except Exception as error:
        # huggingface_hub raises a RuntimeError around what kept a file from being uploaded.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        if isinstance(cause, errors.HfHubHTTPError) and cause.response is not None:
            raise _refusal(cause, repo_id, token) from None
        if isinstance(cause, TimeoutException | HTTPError | TimeoutError | ConnectionError):
            raise HubUnavailableError("The Hub did not answer: check the network and try again.") from None
        if isinstance(cause, ValueError):  # an answer that is none, or LFS's own refusal
            message = _one_line(str(cause).splitlines()[-1] if str(cause) else "", token)
            raise HubUnavailableError(f"The Hub gave an answer that cannot be used: {message}") from None
        raise


def _refusal(error: Any, repo_id: str, token: str | None) -> RankVizError:
    status, owner, message = error.response.status_code, repo_id.split("/")[0], error.server_message or ""
    quoted = f' The Hub says: "{_one_line(message, token)}"' if message else ""
    if status == 429 or (status >= 500 and status != 507):
        return HubUnavailableError(f"The Hub cannot take this now (status {status}). Try again in some minutes.")
    sentences = {
        401: "The Hub does not accept this token: it is wrong, or has expired. Make a new one.",
        403: f"The token may not do this in {owner}: it needs the right to write there, and room in {owner}'s "
        f"storage.{quoted}",
        404: f"The Hub has no {owner}, or the token may not see {repo_id}: check the name.",
        **dict.fromkeys((402, 413, 507), f"The Hub has no room for this in {owner}'s storage.{quoted}"),
        **dict.fromkeys((409, 412), f"{repo_id} was made or changed by somebody else meanwhile. Try again."),
    }
    return PublishError(sentences.get(status, f"The Hub refuses this (status {status}).{quoted}"))


def _one_line(text: str, token: str | None) -> str:
    return printable(redacted(" ".join(text.split()), token or ""), MAX_HUB_WORDS)


def use_http() -> None:
    """Set the environment for publishing over HTTP; call this before huggingface_hub is imported."""
    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"
