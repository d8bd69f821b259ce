"""Writes what is published of a run or a sweep, and sends it to the Hub or to Trackio."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankviz import installed, units
from rankviz.api import Api
from rankviz.api.sinks import facts_of
from rankviz.errors import HubUnavailableError, PublishError, StorageError
from rankviz.hub import publish as hub
from rankviz.machine import disk
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination, SweepFacts
from rankviz.publish import trackio as to_trackio
from rankviz.publish.files import CONFIG, WEIGHTS, write_adapter, write_dataset
from rankviz.visitor import Visitor, acting_as
from rankviz.worker.answering import answer, request_in

MAX_TOKEN_BYTES = 10_000
TRACKIO_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")
"""Variables by which Trackio would send runs where nobody chose to."""
LOGIN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Upload:
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
    request = request_in(argv[0])
    return answer(lambda: published(request, Path(argv[0])))


def published(request: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Publish, and return url, updated and private of the repository as it is then."""
    files = folder / "files"
    files.mkdir()
    job = Upload(
        api=Api(home=Path(request["home"]), assets=Path(request["assets"]), shared=request["shared"]),
        destination=Destination(**request["destination"]),
        run_ids=request["run_ids"],
        name=request["name"],
        folder=files,
        stage_file=Path(request["stage_file"]),
    )
    if not request["use_login"]:  # then nothing in this process finds it
        for name in LOGIN_VARIABLES:
            os.environ.pop(name, None)
    hub.use_http()
    with acting_as(Visitor(**request["visitor"])), _disk_in_words():
        job.on_stage("writing the files")
        sweep = facts_of(job.api, job.name, job.run_ids, job.destination)
        return SENDERS[job.destination.to](job, sweep, given_token() if request["has_token"] else None)


def given_token() -> str:
    """Return the token on standard input."""
    token = os.environ["HF_TOKEN"] = os.read(0, MAX_TOKEN_BYTES).decode()  # Trackio looks for it there alone
    return token


def _dataset(job: Upload, sweep: SweepFacts, token: str | None) -> Mapping[str, Any]:
    write_dataset(sweep, job.folder)
    return _to_hub(job, "dataset", token)


def _adapter(job: Upload, sweep: SweepFacts, token: str | None) -> Mapping[str, Any]:
    (run,) = sweep.runs
    at, store = run.record.adapter_path, job.api.workspace.store
    weights, config = (store.path(run.record.run_id, f"{at}/{name}") for name in (WEIGHTS, CONFIG))
    write_adapter(run, sweep, weights, config, job.folder)
    return _to_hub(job, "model", token)


def _to_hub(job: Upload, kind: hub.Kind, token: str | None) -> Mapping[str, Any]:
    place = job.destination
    there = hub.publish(
        job.folder, place.name, kind, made_of=job.name, public=place.public, token=token, on_stage=job.on_stage
    )
    return {"url": there.url, "updated": there.updated, "private": there.private}


def _trackio(job: Upload, sweep: SweepFacts, token: str | None) -> Mapping[str, Any]:
    """Send each run once: on this machine one that is there is replaced, on a Space it is refused."""
    place = job.destination
    installed.require_trackio()
    for name in TRACKIO_ELSEWHERE:
        os.environ.pop(name, None)
    where: dict[str, Any] = {}
    private = None
    if place.space:
        os.environ["TRACKIO_DIR"] = str(
            job.folder
        )  # of what it sends to a Space; what it keeps for itself stays out of it
        job.on_stage("looking for the Space")
        private = hub.is_private_space(place.space, token)
        where = {"space_id": place.space, "private": not place.public}
        if private is not None:
            hub.require_private(place.space, private, place.public)
            _require_new(sweep, place)
    import trackio

    def on_run(count: int) -> None:
        job.on_stage(f"sending {units.counted(len(sweep.runs), 'run')}, {count} done")

    with hub.in_words(place.space or place.name, token):
        to_trackio.send(trackio, sweep, place.name, on_run, **where)
    url = f"https://huggingface.co/spaces/{place.space}" if place.space else ""
    return {"url": url, "updated": private is not None, "private": not place.public if private is None else private}


def _require_new(sweep: SweepFacts, place: Destination) -> None:
    from trackio.remote_client import RemoteClient

    try:
        client = RemoteClient(place.space, hf_token=os.environ.get("HF_TOKEN"), verbose=False)
        names = to_trackio.known_names(client.predict(project=place.name, api_name="/get_runs_for_project"))
    except Exception as error:  # whatever the client of another program raises
        raise HubUnavailableError(
            f"The Space {place.space} does not answer as Trackio ({type(error).__name__}): wait until it runs, or "
            "choose another."
        ) from None
    if again := sorted(names & {run.record.run_id for run in sweep.runs}):
        raise PublishError(
            f"{place.space} has {units.counted(len(again), 'run')} of these already, such as {again[0]}: to send them "
            "again, delete them in Trackio."
        )


SENDERS: Mapping[str, Callable[[Upload, SweepFacts, str | None], Mapping[str, Any]]] = {
    DATASET: _dataset,
    ADAPTER: _adapter,
    TRACKIO: _trackio,
}


@contextmanager
def _disk_in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (*disk.FULL, *disk.READ_ONLY):
            raise
        raise StorageError(f"The files could not be written: {disk.explain(error)}") from None
