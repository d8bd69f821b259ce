"""Reads models and adapters on the Hub or on this disk; never a pickle.
Of a model only the config.json is read and introspected, of an adapter two files are fetched if not too large."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz import installed
from rankviz.children import Children
from rankviz.core.model.config_check import MAX_CONFIG_BYTES, TOO_LARGE, parse_config
from rankviz.core.model.spec import ModelSpec, model_from_json
from rankviz.errors import (
    DISK_ERRNOS,
    BadAdapterError,
    BadConfigError,
    BadDataError,
    GatedModelError,
    HubSilentError,
    HubUnavailableError,
    RankVizError,
    UnknownModelError,
)

if TYPE_CHECKING:
    from rankviz.hub.door import HubDoor

ANSWERS = 2
"""Version of the worker's answers: add 1 when they get new fields, so that older cached answers are not used."""
TIMEOUT_S = 5  # seconds between two bytes of an answer; door.py limits the whole request


def find_model(
    ref: str | Path, *, cache: Path, children: Children, door: HubDoor | None = None, suggestions: Sequence[str] = ()
) -> ModelSpec:
    """Return a model from outside the catalogue. ref: Path of a config.json or of its folder, or a Hub id;
    references.py tells them apart. cache: Folder of introspected configs, by content. children: Processes that
    introspect the config.json. door: Looks up a Hub id. suggestions: Names of the catalogue that look like the Hub id,
    for the message if the model cannot be fetched."""
    hint = f"{UnknownModelError(str(ref), tuple(suggestions))} " if suggestions else ""
    installed.require("the trainer", f"{hint}Reading a model that is not in the catalogue")
    with config_of(ref, door, suggestions) as config:
        facts = introspect_config(config, cache=cache, children=children)
    if isinstance(ref, Path):
        where = ref.resolve()
        name, source = where.name, f"config.json in {where}" if ref.is_dir() else str(where)
    else:
        name, source = ref.split("/")[-1], f"config.json of {ref} on the Hub"
    checked = datetime.date.today().isoformat()
    return model_from_json({**facts, "id": str(ref), "name": name, "source": source, "checked": checked})


@contextlib.contextmanager
def config_of(ref: str | Path, door: HubDoor | None, suggestions: Sequence[str] = ()) -> Iterator[Path]:
    """Yield the path of a model's config.json, as for find_model; BadConfigError for what is no model."""
    if not isinstance(ref, Path):
        with door.config(ref, suggestions) as config:
            yield config
        return
    config = ref / "config.json" if ref.is_dir() else ref
    if not config.is_file():
        raise BadConfigError(f"{ref} holds no config.json: give the folder of a model, or its config.json.")
    yield config


def read_config(path: Path) -> dict[str, Any]:
    """Return a config.json on this disk; raise BadConfigError where it is malformed or too large."""
    with path.open("rb") as file:
        return parse_config(file.read(MAX_CONFIG_BYTES + 1), name=path.name)


def introspect_config(path: Path, *, cache: Path, children: Children) -> dict[str, Any]:
    """Return the worker's introspection of a config.json: a ModelSpec as JSON, without its name and source. Raise
    BadConfigError where the config cannot be used, WorkerError where the worker ended for another reason."""
    read_config(path)
    raw = path.read_bytes()
    key = hashlib.sha256(raw + f"{ANSWERS} {version('transformers')} {version('peft')}".encode()).hexdigest()[:32]
    remembered = cache / f"{key}.json"

    def known() -> dict[str, Any] | None:
        with contextlib.suppress(ValueError, OSError):
            return json.loads(remembered.read_bytes())
        return None

    if (facts := known()) is not None:
        return facts
    with children.turn(key):
        if (facts := known()) is None:  # while this one waited
            request = {"config": str(path.resolve())}
            facts = children.ask("introspect", request, about=path.name, error=BadConfigError, key=key)
            cache.mkdir(parents=True, exist_ok=True)
            partial = remembered.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(json.dumps(facts))
            partial.replace(remembered)
    return facts


@contextlib.contextmanager
def _repository(
    repo_id: str, api: Any, *, gated: RankVizError, unknown: RankVizError, no_file: RankVizError, unavailable: str
) -> Iterator[tuple[Any, str, dict[str, int]]]:
    """Yield the Hub's client, a repository's commit, and the sizes of its files by name; within the block, turn the
    Hub's failures into the given errors. unavailable: message where the Hub does not answer."""
    from httpx import HTTPError
    from huggingface_hub import HfApi, errors

    api = api or HfApi()
    try:
        info_of = api.dataset_info if isinstance(unknown, BadDataError) else api.model_info
        info = info_of(repo_id, files_metadata=True, timeout=TIMEOUT_S)
        yield api, info.sha, {file.rfilename: file.size or 0 for file in info.siblings or ()}
    except errors.GatedRepoError:
        raise gated from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise unknown from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
        raise HubUnavailableError(unavailable) from None
    except errors.EntryNotFoundError:
        raise no_file from None
    except errors.HfHubHTTPError as error:
        raise HubUnavailableError(unavailable) from error
    except (HTTPError, OSError) as error:
        if getattr(error, "errno", None) in DISK_ERRNOS:
            raise
        raise HubSilentError(unavailable) from error


def fetch_config(repo_id: str, folder: Path, *, suggestions: Sequence[str] = (), api: Any = None) -> Path:
    """Fetch a model's config.json, and return its path. folder: Place for it; the Hub's own cache would keep that of
    every model that anyone names. suggestions: As for find_model. api: like huggingface_hub's HfApi."""
    with _repository(
        repo_id,
        api,
        gated=GatedModelError(repo_id),
        unknown=UnknownModelError(repo_id, tuple(suggestions), reason="nor on the Hub under this name"),
        no_file=BadConfigError(f"{repo_id!r} has no config.json on the Hub, so it cannot be trained. Give its base."),
        unavailable=unavailable(repo_id, suggestions),
    ) as (api, _, sizes):
        if sizes.get("config.json", 0) > MAX_CONFIG_BYTES:
            raise BadConfigError(TOO_LARGE.format("config.json"))
        return Path(api.hf_hub_download(repo_id, "config.json", local_dir=folder, etag_timeout=TIMEOUT_S))


def unavailable(repo_id: str, suggestions: Sequence[str] = ()) -> str:
    """Return the message on a model while the Hub cannot be reached."""
    hint = f" The catalogue has {' and '.join(repr(name) for name in suggestions)}." if suggestions else ""
    return (
        f"{repo_id!r} is not in the catalogue, and the Hub cannot be reached: try again later, or choose a model of "
        f"the catalogue.{hint}"
    )


DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
NO_DATA = ("dataset_infos.json", "dataset_info.json", "config.json", "package.json")
DATA_UNAVAILABLE = (
    "The Hub cannot be reached, so the data set {!r} cannot be downloaded: try again later, or give a file."
)
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_ADAPTER_CONFIG_BYTES = 4_000_000
ADAPTER_UNAVAILABLE = "The Hub cannot be reached, so {!r} cannot be downloaded: try later, or give the adapter's files."


def fetch_adapter(repo_id: str, *, max_bytes: int, copies: str = "", work: Path | None = None, api: Any = None) -> Path:
    """Return the folder with an adapter's config and weights. max_bytes: A larger adapter is refused before it is
    downloaded. copies: Beginning of the path of the copy to make, unless it exists; empty for the Hub's own cache.
    work: Folder for the copy until it is complete. api: like huggingface_hub's HfApi."""
    no_adapter = BadAdapterError(
        f"There is no adapter {repo_id!r} here or on the Hub: check the name, or give its files."
    )
    with _repository(
        repo_id,
        api,
        gated=BadAdapterError(
            f"{repo_id!r} is gated or private on the Hub: download it and give its files; or, on your own machine, "
            "accept its licence there and set HF_TOKEN."
        ),
        unknown=no_adapter,
        no_file=no_adapter,
        unavailable=ADAPTER_UNAVAILABLE.format(repo_id),
    ) as (api, sha, sizes):
        if WEIGHTS not in sizes and (pickled := next((name for name in sizes if name.endswith(".bin")), None)):
            wrong = (
                f"has only {pickled}, and pickle files can run code when they are opened: load it where you trust it "
                f"and save it with PEFT's model.save_pretrained, which writes {WEIGHTS}."
            )
        elif missing := {WEIGHTS, CONFIG} - sizes.keys():
            wrong = f"holds no {' and no '.join(sorted(missing))}, so it is not an adapter in PEFT's layout."
        elif sizes[CONFIG] > MAX_ADAPTER_CONFIG_BYTES:
            wrong = f"has a {CONFIG} larger than one can be."
        elif sizes[WEIGHTS] > max_bytes:
            wrong = f"has {sizes[WEIGHTS]:,} bytes of weights, more than the {max_bytes:,} allowed here."
        else:
            return _fetched(api, repo_id, sha, (CONFIG, WEIGHTS), copies, work)
        raise BadAdapterError(f"{repo_id!r} {wrong}")


def fetch_data(repo_id: str, *, max_bytes: int, copies: str = "", work: Path | None = None, api: Any = None) -> Path:
    """Return a data set's file of examples: of those that RankViz reads the first with "train" in its path, else the
    first. Arguments as for fetch_adapter."""
    nothing = BadDataError(f"There is no data set {repo_id!r} on the Hub: check its name (owner/name), or give a file.")
    gated = BadDataError(f"{repo_id!r} is gated or private on the Hub: download its file, and give that.")
    message = DATA_UNAVAILABLE.format(repo_id)
    errors = {"gated": gated, "unknown": nothing, "no_file": nothing, "unavailable": message}
    with _repository(repo_id, api, **errors) as (api, sha, sizes):
        files = [name for name in sizes if name.lower().endswith(DATA_SUFFIXES)]
        files = [name for name in files if name.rpartition("/")[2].lower() not in NO_DATA]
        if not files:
            raise BadDataError(f"{repo_id!r} has no .jsonl, .json, .csv or .parquet file on the Hub.")
        file = min(files, key=lambda name: ("train" not in name.lower(), name))
        if sizes[file] > max_bytes:
            raise BadDataError(
                f"{file} of {repo_id!r} has {sizes[file]:,} bytes, more than the {max_bytes:,} allowed here."
            )
        return _fetched(api, repo_id, sha, (file,), copies, work, repo_type="dataset") / file


def _fetched(
    api: Any, repo_id: str, sha: str, files: Sequence[str], copies: str, work: Path | None, repo_type: str = "model"
) -> Path:
    """Return the folder with these files of a repository, downloaded unless there is a copy."""
    name = repo_id.rpartition("/")[2]
    copy = Path(copies + hashlib.sha256(f"{repo_id} {sha}".encode()).hexdigest()[:32]) if copies else None
    if copy and (copy / name).is_dir():
        copy.touch()  # used now, so not the next to go
        return copy / name
    place, of = work / name if copy else None, {"revision": sha, "repo_type": repo_type, "etag_timeout": TIMEOUT_S}
    for file in files:
        path = Path(api.hf_hub_download(repo_id, file, local_dir=place, **of))
    folder = path.parents[len(Path(file).parts) - 1]
    if copy is None:
        return folder
    # Others find the copy whole or not at all.
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # what huggingface_hub remembers of the download
    copy.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(folder, copy / f".{os.getpid()}")).rename(copy / name)
