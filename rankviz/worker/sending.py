"""Writes the files that are published of a run or a sweep, and sends them to the Hub or to Trackio."""

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankviz import installed, verdict
from rankviz.api import Api
from rankviz.core.runs.record import RunRecord
from rankviz.errors import BusyError, HubUnavailableError, LimitError, PublishError, StorageError, quoted
from rankviz.hub import publish as hub
from rankviz.machine import disk
from rankviz.publish import ADAPTER, TRACKIO, Destination
from rankviz.publish.files import CONFIG, WEIGHTS, SweepFacts, hub_base, trackio_steps, write_adapter, write_dataset
from rankviz.visitor import Visitor, acting_as

MAX_TOKEN_BYTES = 10_000
TRACKIO_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")
"""Variables that would make Trackio send runs to a place that the user did not choose."""
LOGIN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
OVER_HTTP = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY")
"""Settings of huggingface_hub, which reads them when it is imported."""


def published(
    home: str,
    assets: str,
    shared: bool,
    visitor: Mapping[str, Any],
    run_ids: Sequence[str],
    destination: Mapping[str, Any],
    name: str,
    has_token: bool,
    use_login: bool,
) -> Mapping[str, Any]:
    """Publish a run or a sweep; return url, updated (True where the repository existed before) and private."""
    files = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
    api = Api(home=Path(home), assets=Path(assets), shared=shared)
    place = Destination(**destination)
    if not use_login:  # then nothing in this process finds it
        for variable in LOGIN_VARIABLES:
            os.environ.pop(variable, None)
    os.environ.update(dict.fromkeys(OVER_HTTP, "1"))
    try:
        with acting_as(Visitor(**visitor)):
            sweep = _facts(api, run_ids, place)
        token = None
        if has_token:  # on standard input; Trackio looks for it in this variable alone
            token = os.environ["HF_TOKEN"] = os.read(0, MAX_TOKEN_BYTES).decode()
        if place.to == TRACKIO:
            return _to_trackio(sweep, place, files, token)
        if place.to == ADAPTER:
            (run,) = sweep.runs
            weights, config = (
                api.workspace.store.path(run.run_id, f"{run.adapter_path}/{part}") for part in (WEIGHTS, CONFIG)
            )
            write_adapter(run, sweep, weights, config, files)
        else:
            write_dataset(sweep, files)
        kind: hub.Kind = "model" if place.to == ADAPTER else "dataset"
        return hub.publish(files, place.name, kind, made_of=name, public=place.public, token=token)
    except OSError as error:
        if error.errno not in (*disk.FULL, *disk.READ_ONLY):
            raise
        raise StorageError(f"The files could not be written: {disk.explain(error)}") from None


def _facts(api: Api, run_ids: Sequence[str], destination: Destination) -> SweepFacts:
    """Return the facts about these runs of one sweep that publishing may show."""
    records = [api.runs.get(run_id) for run_id in run_ids]
    sweep = api.runs.sweep(records[0].request.sweep_id)
    try:
        judged = api.verdicts.of_sweep(sweep.sweep_id)
    except BusyError:  # nothing is published yet, so it can wait for its verdict
        raise
    except LimitError:  # there will be none here
        judged = None
    return SweepFacts(
        sweep_id=sweep.sweep_id,
        base_model=hub_base(records[0].request, destination.base_model),
        runs=records,
        estimates={record.run_id: api.runs.expected_run(record) for record in records},
        verdict=verdict.sentences(judged) if judged and len(judged.ranks) > 1 else (),
        all_runs=sweep.runs,
        spent=replace(api.engines.spent(sweep), limit_usd=None),
    )


def _to_trackio(sweep: SweepFacts, place: Destination, folder: Path, token: str | None) -> Mapping[str, Any]:
    """Send each run to Trackio. Here it replaces a run of the same name; a Space refuses such a run."""
    installed.require("Trackio", "This")
    for name in TRACKIO_ELSEWHERE:
        os.environ.pop(name, None)
    where: dict[str, Any] = {}
    private = None
    if place.space:
        os.environ["TRACKIO_DIR"] = str(folder)  # what it sends to a Space stays out of its own folder
        private = hub.is_private_space(place.space, token)
        where = {"space_id": place.space, "private": not place.public}
        if private is not None:
            hub.require_private(place.space, private, place.public)
            from trackio.remote_client import RemoteClient

            try:
                client = RemoteClient(place.space, hf_token=os.environ.get("HF_TOKEN"), verbose=False)
                there = client.predict(project=place.name, api_name="/get_runs_for_project")
                names = {str(run.get("name") if isinstance(run, Mapping) else run) for run in there}
            except Exception as error:  # whatever the client of another program raises
                raise HubUnavailableError(
                    f"The Space {place.space} does not answer as Trackio ({type(error).__name__}): wait, or choose "
                    "another."
                ) from None
            if again := sorted(names & {run.run_id for run in sweep.runs}):
                raise PublishError(
                    f"{place.space} has runs of these already, such as {again[0]}: to send them again, delete them in "
                    "Trackio."
                )
    import trackio

    with hub.in_words(place.space or place.name, token):
        if not where:
            forget(trackio, place.name, {run.run_id for run in sweep.runs})
        for run in sweep.runs:
            send(trackio, run, sweep, place.name, where)
    url = f"https://huggingface.co/spaces/{place.space}" if place.space else ""
    return {"url": url, "updated": private is not None, "private": not place.public if private is None else private}


def forget(trackio: Any, project: str, run_ids: set[str]) -> None:
    """Delete these runs from a project on this machine; raise PublishError for a run that RankViz did not send.
    trackio: the library, or something that answers like it."""
    try:
        runs = [run for run in trackio.Api().runs(project) if run.name in run_ids]
    except ValueError:  # there is no such project yet
        return
    for run in runs:
        if (run.config or {}).get("made_by") != "RankViz":
            raise PublishError(
                f"{quoted(project)} has a run {quoted(run.name)} that RankViz did not send: choose another project."
            )
        run.delete()


def send(trackio: Any, run: RunRecord, sweep: SweepFacts, project: str, where: Mapping[str, Any]) -> None:
    """Send a run to a project. where: space_id and private for a Space; empty for this machine."""
    quiet = {"resume": "never", "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    with warnings.catch_warnings(record=True) as trouble:
        warnings.simplefilter("always")
        config = {"made_by": "RankViz", **sweep.row(run), "verdict": " ".join(sweep.verdict[:1])}
        trackio.init(project=project, name=run.run_id, group=sweep.sweep_id, config=config, **quiet, **where)
        for step, metrics in trackio_steps(run):
            trackio.log(metrics, step=step)
        trackio.finish()
    if where and trouble:
        raise PublishError(f"Trackio could not send everything to {where['space_id']}: {trouble[-1].message}")
