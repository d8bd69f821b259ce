"""Sends runs to Trackio: on this machine, or to a Space."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rankviz import installed, units
from rankviz.errors import HubUnavailableError, PublishError
from rankviz.hub import publish as hub
from rankviz.sinks import Destination, SweepFacts
from rankviz.sinks.trackio import known_names, send

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")
"""Variables by which Trackio would send runs where nobody chose to."""


def send_to_trackio(
    sweep: SweepFacts, place: Destination, token: str | None, on_stage: Callable[[str], None], folder: Path
) -> Mapping[str, Any]:
    """Each run once: on this machine one that is there is replaced, on a Space it is refused.

    folder: where Trackio keeps what it sends to a Space; what it keeps for itself stays out of it.
    """
    installed.require_trackio()
    for name in ELSEWHERE:
        os.environ.pop(name, None)
    where: dict[str, Any] = {}
    private = None
    if place.space:
        os.environ["TRACKIO_DIR"] = str(folder)
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
        send(trackio, sweep, place.name, on_run, **where)
    url = f"https://huggingface.co/spaces/{place.space}" if place.space else ""
    return {"url": url, "updated": private is not None, "private": not place.public if private is None else private}


def _require_new(sweep: SweepFacts, place: Destination) -> None:
    from trackio.remote_client import RemoteClient

    try:
        client = RemoteClient(place.space, hf_token=os.environ.get("HF_TOKEN"), verbose=False)
        names = known_names(client.predict(project=place.name, api_name="/get_runs_for_project"))
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
