"""Writes what is published of a run or a sweep, and sends it to the Hub or to Trackio."""

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankviz.api import Api
from rankviz.api.sinks import facts_of
from rankviz.errors import RankVizError, StorageError, WorkerError
from rankviz.hub import publish as hub
from rankviz.machine import disk
from rankviz.sinks import ADAPTER, DATASET, TRACKIO, Destination, SweepFacts
from rankviz.sinks.adapter import CONFIG, WEIGHTS, write_adapter
from rankviz.sinks.dataset import write_dataset
from rankviz.visitor import Visitor, acting_as
from rankviz.worker.answering import answer, request_in
from rankviz.worker.sending.trackio import send_to_trackio

MAX_TOKEN_BYTES = 1000
LOGIN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process does."""

    api: Api
    destination: Destination
    run_ids: Sequence[str]
    name: str
    folder: Path
    stage_file: Path

    def on_stage(self, stage: str) -> None:
        """Say what is done now to whoever looks at the file. Renamed into place, so that nobody reads half of it."""
        aside = self.stage_file.with_suffix(".new")
        aside.write_text(stage, encoding="utf-8")
        aside.replace(self.stage_file)


def main(argv: Sequence[str]) -> int:
    asked = request_in(argv[0])
    return answer(lambda: published(asked, Path(argv[0])))


def published(asked: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """url, updated and private of what is there now."""
    files = folder / "files"
    files.mkdir()
    job = Job(
        api=Api(home=Path(asked["home"]), assets=Path(asked["assets"]), shared=asked["shared"]),
        destination=Destination(**asked["destination"]),
        run_ids=asked["run_ids"],
        name=asked["name"],
        folder=files,
        stage_file=Path(asked["stage_file"]),
    )
    with acting_as(Visitor(**asked["visitor"])), _in_words():
        job.on_stage("writing the files")
        sweep = facts_of(job.api, job.name, job.run_ids, job.destination)
        token = given_token(asked["has_token"], use_login=asked["use_login"])
        return SENDERS[job.destination.to](job, sweep, token)


def given_token(has_token: bool, *, use_login: bool) -> str | None:
    """The token on standard input; None where this machine's login is to be used. Without that leave, nothing in this
    process finds it."""
    token = os.read(0, MAX_TOKEN_BYTES).decode() if has_token else None
    if not use_login:
        for name in LOGIN_VARIABLES:
            os.environ.pop(name, None)
    hub.use_http()
    if token:
        os.environ["HF_TOKEN"] = token  # of this process alone: Trackio finds it nowhere else
    return token


def _dataset(job: Job, sweep: SweepFacts, token: str | None) -> Mapping[str, Any]:
    write_dataset(sweep, job.folder)
    return _to_hub(job, "dataset", token)


def _adapter(job: Job, sweep: SweepFacts, token: str | None) -> Mapping[str, Any]:
    (run,) = sweep.runs
    at, store = run.record.adapter_path, job.api.workspace.store
    weights, config = (store.path(run.record.run_id, f"{at}/{name}") for name in (WEIGHTS, CONFIG))
    write_adapter(run, sweep, weights, config, job.folder)
    return _to_hub(job, "model", token)


def _to_hub(job: Job, kind: hub.Kind, token: str | None) -> Mapping[str, Any]:
    place = job.destination
    there = hub.publish(
        job.folder, place.name, kind, made_of=job.name, public=place.public, token=token, on_stage=job.on_stage
    )
    return {"url": there.url, "updated": there.updated, "private": there.private}


def _trackio(job: Job, sweep: SweepFacts, token: str | None) -> Mapping[str, Any]:
    return send_to_trackio(sweep, job.destination, token, job.on_stage, job.folder)


SENDERS: Mapping[str, Callable[[Job, SweepFacts, str | None], Mapping[str, Any]]] = {
    DATASET: _dataset,
    ADAPTER: _adapter,
    TRACKIO: _trackio,
}


class _in_words:
    """A full disk as a sentence; of any other failure the log, from which the parent takes the token."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) and error.errno in (*disk.FULL, *disk.READ_ONLY):
            raise StorageError(f"The files could not be written: {disk.explain(error)}") from None
        if isinstance(error, Exception) and not isinstance(error, RankVizError):
            traceback.print_exception(error)
            raise WorkerError(
                f"Publishing failed ({type(error).__name__}); the log of this server says more."
            ) from None
