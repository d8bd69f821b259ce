"""A model on the Hub: its config.json, and what the Hub says of its safetensors headers. Never its weights.

Each failure is one error with one sentence.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rankviz.children import Children
from rankviz.core.model.config_check import MAX_CONFIG_BYTES, too_large
from rankviz.core.model.json import model_from_json
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import BadConfigError, GatedModelError, HubUnavailableError, UnknownModelError
from rankviz.hub.introspection import introspect_config
from rankviz.hub.local import compare_totals
from rankviz.hub.reach import silence

TIMEOUT_S = 5
"""Between two bytes of an answer; door.py bounds the whole."""


class HubConfig(NamedTuple):
    """What the Hub knows about a model."""

    path: Path
    """Of its config.json."""
    revision: str | None
    stored_parameters: int | None
    """The sum over its safetensors headers."""
    licence: str | None
    gated: bool | None


def model_from_hub(
    repo_id: str, config: HubConfig, *, cache: Path | None = None, children: Children | None = None
) -> ModelSpec:
    """The model of a Hub id, laid out from its config.json."""
    facts = introspect_config(config.path, cache=cache, children=children)
    revision = f" at {config.revision[:12]}" if config.revision else ""
    return model_from_json(
        facts
        | {
            "id": repo_id,
            "name": repo_id.split("/")[-1],
            "verified": config.stored_parameters == facts["total_parameters"],
            "licence": config.licence,
            "gated": config.gated,
            "source": f"config.json of {repo_id} on the Hub{revision}",
            "checked": datetime.date.today().isoformat(),
            "note": compare_totals(
                facts["total_parameters"], config.stored_parameters, "the Hub's safetensors headers"
            ),
        }
    )


def fetch_config(repo_id: str, folder: Path, *, suggestions: Sequence[str] = (), api: Any = None) -> HubConfig:
    """A model's config.json and what is known beside it.

    Args:
        repo_id: Its id on the Hub.
        folder: Where the config.json goes; the Hub's own cache would keep that of every model that anyone names.
        suggestions: Names of the catalogue that look like it, for the message if there is no such model.
        api: huggingface_hub's HfApi, or something that answers like it.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi, errors

    api = api or HfApi()
    try:
        info = api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT_S)
        _check_size(info)
        path = Path(api.hf_hub_download(repo_id, "config.json", local_dir=folder, etag_timeout=TIMEOUT_S))
    except errors.GatedRepoError:
        raise GatedModelError(repo_id) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UnknownModelError(repo_id, tuple(suggestions), reason="nor on the Hub under this name") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
        raise HubUnavailableError(unavailable(repo_id, suggestions)) from None
    except errors.EntryNotFoundError:
        raise BadConfigError(f"{repo_id!r} has no config.json on the Hub, so it is not a transformers model.") from None
    except errors.HfHubHTTPError as error:
        raise HubUnavailableError(unavailable(repo_id, suggestions)) from error
    except (HTTPError, OSError) as error:
        raise silence(error, unavailable(repo_id, suggestions)) from error
    card = getattr(info, "card_data", None)
    return HubConfig(
        path=path,
        revision=getattr(info, "sha", None),
        stored_parameters=getattr(getattr(info, "safetensors", None), "total", None),
        licence=card.get("license") if card is not None else None,
        gated=bool(info.gated) if getattr(info, "gated", None) is not None else None,
    )


def _check_size(info: Any) -> None:
    """BadConfigError where the config.json is too large to be one, before it is fetched."""
    sizes = {file.rfilename: file.size or 0 for file in getattr(info, "siblings", None) or ()}
    if (size := sizes.get("config.json", 0)) > MAX_CONFIG_BYTES:
        raise BadConfigError(too_large("config.json", size))


def unavailable(repo_id: str, suggestions: Sequence[str] = ()) -> str:
    """Why a model is not to be had while the Hub is not."""
    hint = f" The catalogue has {' and '.join(repr(name) for name in suggestions)}." if suggestions else ""
    return (
        f"{repo_id!r} is not in the catalogue, and the Hub cannot be reached: try again later, or choose a model of "
        f"the catalogue.{hint}"
    )
