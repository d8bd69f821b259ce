"""Whether the Hugging Face Hub answers, and where its cache is."""

from pathlib import Path
from typing import Any

from rankviz.core.preflight.facts import HubAnswer

TIMEOUT_S = 3.0


def ask_hub(session: Any = None) -> HubAnswer:
    """One HEAD request to the Hub, or to the mirror that HF_ENDPOINT names. session: an httpx client."""
    from httpx import HTTPError
    from huggingface_hub import constants, get_session

    endpoint = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return HubAnswer(endpoint=endpoint, reached=False, offline=True)
    try:
        answer = (session or get_session()).head(endpoint, timeout=TIMEOUT_S, follow_redirects=True)
    except (HTTPError, OSError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return HubAnswer(endpoint=endpoint, reached=False, reason=first_line)
    if answer.status_code >= 500:
        return HubAnswer(endpoint=endpoint, reached=False, reason=f"status {answer.status_code}")
    return HubAnswer(endpoint=endpoint, reached=True)


def cache_folder() -> Path:
    """Where downloads are kept: HF_HUB_CACHE, or hub/ in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_cached(repo_id: str) -> bool:
    """Whether a config.json of this repository has been fetched before."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(repo_id, "config.json"), str)
    except errors.HFValidationError:
        return False
