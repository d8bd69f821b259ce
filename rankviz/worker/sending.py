"""Writes the files that are published of a run or a sweep, and sends them to the Hub or to Trackio."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
"""Variables that would make Trackio send runs to a place that the user did not choose."""
LOGIN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def main(argv: Sequence[str]) -> int:
    return answer(lambda: published(request_in(argv[0]), Path(argv[0])))


def published(request: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Publish, and return url, updated (True where the repository existed before) and private."""
    files, stage_file = folder / "files", Path(request["stage_file"])
    files.mkdir()
    api = Api(home=Path(request["home"]), assets=Path(request["assets"]), shared=request["shared"])
    place, name = Destination(**request["destination"]), request["name"]

    def on_stage(stage: str) -> None:
        aside = stage_file.with_suffix(".new")  # renamed into place, so that nobody reads half of it
        aside.write_text(stage, encoding="utf-8")
        aside.replace(stage_file)

    if not request["use_login"]:  # then nothing in this process finds it
        for variable in LOGIN_VARIABLES:
            os.environ.pop(variable, None)
    hub.use_http()
    with acting_as(Visitor(**request["visitor"])), _disk_in_words():
        on_stage("writing the files")
        sweep = facts_of(api, name, request["run_ids"], place)
        token = None
        if request["has_token"]:  # on standard input; Trackio looks for it in this variable alone
            token = os.environ["HF_TOKEN"] = os.read(0, MAX_TOKEN_BYTES).decode()
        if place.to == TRACKIO:
            return _to_trackio(sweep, place, files, token, on_stage)
        if place.to == DATASET:
            write_dataset(sweep, files)
        if place.to == ADAPTER:
            (run,) = sweep.runs
            path = f"{run.record.adapter_path}/"
            weights, config = (api.workspace.store.path(run.record.run_id, path + part) for part in (WEIGHTS, CONFIG))
            write_adapter(run, sweep, weights, config, files)
        kind: hub.Kind = "dataset" if place.to == DATASET else "model"
        options = {"made_of": name, "public": place.public, "token": token, "on_stage": on_stage}
        there = hub.publish(files, place.name, kind, **options)
        return {"url": there.url, "updated": there.updated, "private": there.private}


def _to_trackio(
    sweep: SweepFacts, place: Destination, folder: Path, token: str | None, on_stage: Callable[[str], None]
) -> Mapping[str, Any]:
    """Send each run once. On this machine it replaces an existing run; on a Space an existing run is refused."""
    installed.require_trackio()
    for name in TRACKIO_ELSEWHERE:
        os.environ.pop(name, None)
    where: dict[str, Any] = {}
    private = None
    if place.space:
        os.environ["TRACKIO_DIR"] = str(folder)  # what it sends to a Space stays out of its own folder
        on_stage("looking for the Space")
        private = hub.is_private_space(place.space, token)
        where = {"space_id": place.space, "private": not place.public}
        if private is not None:
            hub.require_private(place.space, private, place.public)
            _require_new(sweep, place)
    import trackio

    def on_run(count: int) -> None:
        on_stage(f"sending {units.counted(len(sweep.runs), 'run')}, {count} done")

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


@contextmanager
def _disk_in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (*disk.FULL, *disk.READ_ONLY):
            raise
        raise StorageError(f"The files could not be written: {disk.explain(error)}") from None
