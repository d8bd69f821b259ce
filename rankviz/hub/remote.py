"""Models on the Hub or on this disk: their config.json, and what the Hub says of their weights, which stay there."""

import contextlib
import datetime
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rankviz.children import Bounds, Children
from rankviz.core.model.config_check import MAX_CONFIG_BYTES, parse_config, too_large
from rankviz.core.model.spec import ModelSpec, model_from_json
from rankviz.errors import BadConfigError, GatedModelError, HubUnavailableError, UnknownModelError
from rankviz.hub.reach import silence
from rankviz.units import GIB

ANSWERS = 2
"""Raised by 1 when the worker's answer gets new fields, so that older cached answers are not used."""
TIMES = "seconds.txt"
LAST_TIMES = 10
"""Of layouts, kept in the cache to say how long the next one may take."""
BOUNDS = Bounds(seconds=60, memory_bytes=16 * GIB)
"""Of a caller without bounds of its own. A normal model takes seconds, and about 1 GiB with torch for the CPU."""


def introspect_config(path: Path, *, cache: Path | None = None, children: Children | None = None) -> dict[str, Any]:
    """The worker's introspection of a config.json: a ModelSpec as JSON, but for its name and source.

    BadConfigError where the config cannot be used, WorkerError where the worker ended for another reason.
    """
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise BadConfigError(too_large(path.name, size))
    raw = path.read_bytes()
    parse_config(raw, name=path.name)
    key = hashlib.sha256(raw + f"{ANSWERS} {version('transformers')} {version('peft')}".encode()).hexdigest()[:32]
    remembered = cache / f"{key}.json" if cache else None
    if (facts := _read(remembered)) is not None:
        return facts
    children = children or Children(BOUNDS)
    with children.turn(key):
        if (facts := _read(remembered)) is None:  # while this one waited
            request, began = {"config": str(path.resolve())}, time.monotonic()
            facts = children.ask("introspect", request, about=path.name, error=BadConfigError, key=key)
            if remembered is not None:
                _write(remembered, facts)
                _note_seconds(cache, time.monotonic() - began)
    return facts


def usual_seconds(cache: Path) -> float | None:
    """What laying out a model has taken here, the median of the last ones; None where there were none yet."""
    try:
        took = [float(line) for line in (cache / TIMES).read_text().split()[-LAST_TIMES:]]
    except (OSError, ValueError):
        return None
    return statistics.median(took) if took else None


def _note_seconds(cache: Path, seconds: float) -> None:
    with contextlib.suppress(OSError):  # it would only have been said to who waits
        before = (cache / TIMES).read_text().split() if (cache / TIMES).exists() else []
        (cache / TIMES).write_text("\n".join([*before, f"{seconds:.2f}"][-LAST_TIMES:]) + "\n")


def _read(path: Path | None) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError, OSError):
        return json.loads(path.read_bytes()) if path else None
    return None


def _write(path: Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(facts))
    partial.replace(path)


MAX_HEADER_BYTES = 100_000_000
"""As safetensors itself allows."""
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 10**15


def model_from_path(path: Path, *, cache: Path | None = None, children: Children | None = None) -> ModelSpec:
    """A folder's config.json, or the file itself; a folder's safetensors headers are compared with the total."""
    folder = path if path.is_dir() else None
    config = path / "config.json" if folder else path
    if not config.is_file():
        raise BadConfigError(f"{path} holds no config.json: give the folder of a model, or its config.json.")
    facts = introspect_config(config, cache=cache, children=children)
    stored = stored_parameters(folder) if folder else None
    where = folder or config
    return model_from_json(
        facts
        | {
            "id": str(path),
            "name": where.resolve().name,
            "verified": stored == facts["total_parameters"],
            "source": f"{config.name} in {where.resolve()}" if folder else str(config.resolve()),
            "checked": datetime.date.today().isoformat(),
            "note": compare_totals(facts["total_parameters"], stored, "the folder's safetensors headers"),
        }
    )


def stored_parameters(folder: Path) -> int | None:
    """Elements of all tensors in a folder's *.safetensors, from their headers; None without such files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    return sum(_elements(file) for file in files)


def _elements(file: Path) -> int:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= MAX_HEADER_BYTES:
            raise BadConfigError(f"{file.name} is not a safetensors file: its header's length is {length:,}.")
        try:
            header = json.loads(stream.read(length))
            shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
            elements = sum(math.prod(shape) for shape in shapes if _is_shape(shape))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            elements, shapes = 0, [None]
    if not all(map(_is_shape, shapes)) or elements > MAX_ELEMENTS:
        raise BadConfigError(f"{file.name} is not a safetensors file: its header cannot be read.")
    return elements


def _is_shape(shape: Any) -> bool:
    """A tensor's: a few whole numbers."""
    few = isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS
    return few and all(isinstance(size, int) and 0 <= size <= MAX_ELEMENTS for size in shape)


def compare_totals(counted: int, stored: int | None, where: str) -> str:
    """A sentence for a stored total that differs, and nothing for one that agrees or is not known."""
    if stored is None or stored == counted:
        return ""
    return (
        f"{where[0].upper()}{where[1:]} hold {stored:,} numbers, but the model built here has {counted:,} parameters. "
        "Possible reasons: tied weights saved twice, saved buffers, packed 4-bit weights or extra heads."
    )


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
