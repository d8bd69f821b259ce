"""Puts a folder of files on the Hub as one commit, into a new repository or into one made of the same runs.
The file MARK in a repository says what it was made of; a repository without MARK is written into only while it is
empty. Files go over HTTP (LFS) rather than Xet, whose library keeps logs and caches of its own."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from rankviz.core.bounds import printable
from rankviz.errors import HubUnavailableError, PublishError, RankVizError, redacted

Kind = Literal["dataset", "model", "space"]
MARK = "rankviz.json"
TIMEOUT_S = 30.0
MAX_MARK_BYTES = 100_000
MAX_HUB_WORDS = 200


def publish(
    folder: Path, repo_id: str, kind: Kind, *, made_of: str, public: bool, token: str | None, api: Any = None
) -> dict[str, Any]:
    """Upload a folder; return the repository's url, updated (True where it existed before) and private. Raise
    PublishError where the Hub refuses the upload or the repository belongs to something else, HubUnavailableError where
    the Hub does not answer. made_of: The id of the run or sweep. public: True where everybody may see a new repository.
    token: None for the login of this machine. api: like huggingface_hub's HfApi with this token."""
    from huggingface_hub import HfApi

    api = api or HfApi(token=token)
    with in_words(repo_id, token):
        if there := _repository(api, repo_id, kind):
            _require_ours(api, repo_id, kind, there, made_of)
            require_private(repo_id, bool(there.private), public)
        else:
            repo_id = api.create_repo(repo_id, repo_type=kind, private=not public).repo_id
        (folder / MARK).write_text(json.dumps({"made_by": "RankViz", "made_of": made_of}), encoding="utf-8")
        api.upload_folder(repo_id=repo_id, repo_type=kind, folder_path=folder, commit_message=f"RankViz: {made_of}")
    url = f"{api.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{repo_id}"
    return {"url": url, "updated": bool(there), "private": bool(there.private) if there else not public}


def is_private_space(repo_id: str, token: str | None, api: Any = None) -> bool | None:
    """Tell whether a Space of the token's account or organizations is private; None where it does not exist.
    PublishError for a Space of others, whose program would get the token. api: like HfApi."""
    from huggingface_hub import HfApi

    api = api or HfApi(token=token)
    with in_words(repo_id, token):
        account = api.whoami()
        there = _repository(api, repo_id, "space")
    owners = {str(each.get("name")).casefold() for each in (account, *(account.get("orgs") or ()))}
    for name in (repo_id, there.id if there else repo_id):  # one that was moved answers by its old name too
        if name.partition("/")[0].casefold() not in owners:
            raise PublishError(
                f"The Space {name} is of another account, whose program would get your token: choose yours."
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


def _require_ours(api: Any, repo_id: str, kind: Kind, there: Any, made_of: str) -> None:
    """Raise PublishError for a repository that is neither empty nor an earlier upload of the same runs."""
    files = {file.rfilename for file in there.siblings or ()}
    if files <= {".gitattributes"}:
        return
    mark: Any = None
    if MARK in files:
        with tempfile.TemporaryDirectory(prefix="rankviz-") as folder, suppress(ValueError, RecursionError):
            path = Path(api.hf_hub_download(repo_id, MARK, repo_type=kind, revision=there.sha, local_dir=folder))
            mark = json.loads(path.read_bytes()[:MAX_MARK_BYTES])
    if not isinstance(mark, dict) or (mark.get("made_by"), mark.get("made_of")) != ("RankViz", made_of):
        raise PublishError(
            f"{repo_id} is there and RankViz did not make it of these runs, so it stays as it is: choose another name."
        )


@contextmanager
def in_words(repo_id: str, token: str | None) -> Iterator[None]:
    """Raise each failure of the Hub within the block as an error with one sentence."""
    from httpx import HTTPError
    from huggingface_hub import errors

    try:
        yield
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
        if isinstance(cause, HTTPError | TimeoutError | ConnectionError):
            raise HubUnavailableError("The Hub did not answer: check the network and try again.") from None
        if isinstance(cause, ValueError):  # an answer that is none, or LFS's own refusal
            raise HubUnavailableError("The Hub gave an answer that cannot be used. Try again.") from None
        raise


def _refusal(error: Any, repo_id: str, token: str | None) -> RankVizError:
    status, owner = error.response.status_code, repo_id.split("/")[0]
    if status == 429 or (status >= 500 and status != 507):
        return HubUnavailableError(f"The Hub cannot take this now (status {status}). Try again in some minutes.")
    sentences = {
        401: "The Hub does not accept this token: it is wrong, or has expired. Make a new one.",
        403: f"The token may not do this in {owner}: it needs the right to write there.",
        404: f"The Hub has no {owner}, or the token may not see {repo_id}: check the name.",
        **dict.fromkeys((402, 413, 507), f"The Hub has no room for this in {owner}'s storage."),
        **dict.fromkeys((409, 412), f"{repo_id} was made or changed by somebody else meanwhile. Try again."),
    }
    words = printable(redacted(" ".join((error.server_message or "").split()), token or ""), MAX_HUB_WORDS)
    said = f' The Hub says: "{words}"' if words else ""
    return PublishError(f"{sentences.get(status, f'The Hub refuses this (status {status}).')}{said}")
