"""Files that strangers send, made here from valid ones."""

import io
import json
import zipfile
from dataclasses import asdict

from rankviz.store.journal import request_text
from tests.support.models.saved_adapters import CONFIG, two_blocks
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events


def run_files(run_id, sweep_id="", *, change=None, events=None, loss=2.0):
    """{"request.json": ..., "events.jsonl": ...} of an ended run. change: edits the request's JSON; events: instead of
    what a finished run holds."""
    (request,) = questions.sweep(ranks=(4,), max_steps=2).runs(
        sweep_id=sweep_id or f"{run_id}-sweep", created_at=1.76e9
    )
    row = json.loads(request_text(request)) | {"run_id": run_id}
    lines = [json.dumps({"event": type(event).__name__, **asdict(event)}) for event in finished_events(request, loss)]
    return {
        "request.json": json.dumps(change(row) or row if change else row),
        "events.jsonl": "\n".join(lines if events is None else events(lines)) + "\n",
    }


def zip_of(files):
    """A zip of {name: text or bytes}."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def runs_zip(*runs):
    """An export of (run id, files) pairs."""
    return zip_of({f"runs/{run_id}/{name}": data for run_id, files in runs for name, data in files.items()})


def adapter_zip(folder, extra=(), **config):
    """A small adapter with another configuration, and further files."""
    two_blocks(folder)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    text = json.dumps(CONFIG | config)
    return zip_of({"adapter_config.json": text, "adapter_model.safetensors": weights, **dict(extra)})
