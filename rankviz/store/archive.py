"""Runs out as a zip, and in again: requests and journals, not adapters, with two CSV files for other tools.

A zip from elsewhere is bounded in size, its names are checked, runs that have not ended are refused (they would be
trained here) and nothing is overwritten.
"""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.store.journal import parse_event, parse_request
from rankviz.store.ownership import NO_ONES, Ownership
from rankviz.store.runs import RunStore

MAX_ENTRIES = 4096
MAX_ARCHIVE_BYTES = 100 * 10**6
MAX_UNPACKED_BYTES = 200 * 10**6
_MEMBER = re.compile(r"runs/([A-Za-z0-9][A-Za-z0-9._-]{0,99})/(request\.json|events\.jsonl)")
_SUMMARY, _LOSSES = "summary.csv", "losses.csv"


def export_runs(stores: Sequence[RunStore], ids: Sequence[str], target: Path) -> Path:
    """Write the named runs and sweeps, as far as they have ended, into the zip `target`. The first store that has a
    name is taken; RunNotFoundError where none has it."""
    places = {run_id: store for name in ids for run_id, store in _located(stores, name).items()}
    records = [record for run_id, store in places.items() if (record := store.get(run_id)).state.ended]
    if not records:
        raise InvalidSettingError("None of these runs has ended yet: export them when they have.")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_SUMMARY, _csv([summary_row(record) for record in records]))
        archive.writestr(_LOSSES, _csv([row for record in records for row in loss_rows(record)]))
        for record in records:
            for name in ("request.json", "events.jsonl"):
                archive.write(places[record.run_id].run_dir(record.run_id) / name, f"runs/{record.run_id}/{name}")
    return target


def _located(stores: Sequence[RunStore], name: str) -> dict[str, RunStore]:
    """The runs of a name, with the store that has them."""
    *others, last = stores
    for store in others:
        try:
            return dict.fromkeys(store.run_ids(name), store)
        except RunNotFoundError:
            continue
    return dict.fromkeys(last.run_ids(name), last)


def import_runs(
    store: RunStore, source: Path, shipped: Collection[str] = (), ownership: Ownership = NO_ONES
) -> list[str]:
    """Bring the runs of an exported zip into the store and return their ids. All of them, or none; without those that
    RankViz ships (their ids), which are here already."""
    if not Path(source).is_file():
        raise InvalidSettingError(f"There is no file {str(source)!r}.")
    try:
        if Path(source).stat().st_size > MAX_ARCHIVE_BYTES:
            raise InvalidSettingError(
                f"{Path(source).name} is over {MAX_ARCHIVE_BYTES // 10**6} MB: not a RankViz export."
            )
        with zipfile.ZipFile(source) as archive:
            folders = _read_folders(archive)
    except (
        OSError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        zlib.error,
    ) as error:
        raise InvalidSettingError(f"{Path(source).name} cannot be read as a RankViz export: {error}.") from error
    if not (folders := {run_id: files for run_id, files in folders.items() if run_id not in shipped}):
        raise InvalidSettingError(
            f"The runs of {Path(source).name} are recorded ones that ship with RankViz, so they are here already; "
            "nothing was imported."
        )
    for run_id, files in folders.items():
        _check(run_id, files)
        if store.run_dir(run_id).exists():
            raise InvalidSettingError(f"Run {run_id!r} is here already; nothing was imported.")
    store.publish(folders, ownership)
    return list(folders)


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def summary_row(record: RunRecord) -> dict[str, object]:
    """What was asked of a run and what was measured; None is not known."""
    request, completed = record.request, record.completed
    return {
        "run_id": record.run_id,
        "sweep_id": request.sweep_id,
        "state": record.state.value,
        "base": request.base,
        "data": request.data,
        "r": request.lora.r,
        "lora_alpha": request.lora.lora_alpha,
        "learning_rate": request.learning_rate,
        "seed": request.seed,
        "max_steps": request.max_steps,
        "steps_done": record.steps[-1].step if record.steps else 0,
        "loss_before": record.loss_before and record.loss_before.loss,
        "loss_after": record.loss_after and record.loss_after.loss,
        "gain": record.gain,
        "token_accuracy_before": record.loss_before and record.loss_before.token_accuracy,
        "token_accuracy_after": record.loss_after and record.loss_after.token_accuracy,
        "exact_match_before": record.loss_before and record.loss_before.exact_match,
        "exact_match_after": record.loss_after and record.loss_after.exact_match,
        "exact_match_examples": (record.loss_after and record.loss_after.answered) or None,
        "trainable_parameters": record.trainable_parameters,
        "adapter_bytes": record.adapter_bytes,
        "peak_memory_bytes": completed and completed.peak_memory_bytes,
        "peak_memory_kind": completed and completed.peak_memory_kind,
        "train_seconds": completed and completed.train_seconds,
        "first_step_seconds": record.first_step_seconds,
        "step_seconds": record.step_seconds,
        "device": record.environment.get("device_name"),
    }


def loss_rows(record: RunRecord) -> list[dict[str, object]]:
    """A row a held-out example, in nats a token, as `rankviz verdict` reads them; none where none were kept. Beside the
    loss: how many tokens it has and how many of them are correct, and whether its answer is the reference."""
    request, after = record.request, record.loss_after
    losses = after.example_losses if after else ()
    settings = {
        "sweep_id": request.sweep_id,
        "rank": request.lora.r,
        "learning_rate": request.learning_rate,
        "seed": request.seed,
    }
    counts = [after.example_tokens, after.example_correct_tokens, after.example_exact_matches] if after else []
    return [
        {**settings, "example": example, "loss": loss}
        | {"target_tokens": tokens, "correct_tokens": correct, "exact_match": match}
        for example, (loss, tokens, correct, match) in enumerate(_side_by_side(losses, *counts))
    ]


def _side_by_side(losses: Sequence[float], *counts: Sequence[int | None]) -> Iterator[tuple[float | int | None, ...]]:
    """Counts that were not kept are None."""
    return zip(losses, *(each or [None] * len(losses) for each in counts), strict=True)


def _read_folders(archive: zipfile.ZipFile) -> dict[str, dict[str, str]]:
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        raise InvalidSettingError(f"The zip holds {len(members)} files, at most {MAX_ENTRIES} are read.")
    folders: dict[str, dict[str, str]] = {}
    left = MAX_UNPACKED_BYTES
    for member in members:
        if member.filename in (_SUMMARY, _LOSSES) or member.is_dir():
            continue
        match = _MEMBER.fullmatch(member.filename)
        if match is None:
            raise InvalidSettingError(f"The zip holds {member.filename!r}, which no RankViz export does.")
        # The header may lie about the size, so count what really comes out.
        with archive.open(member) as file:
            data = file.read(left + 1)
        left -= len(data)
        if left < 0:
            raise InvalidSettingError(f"The zip unpacks to more than {MAX_UNPACKED_BYTES // 10**6} MB.")
        folders.setdefault(match[1], {})[match[2]] = data.decode("utf-8", errors="replace")
    if not folders:
        raise InvalidSettingError("The zip holds no runs.")
    return folders


def _check(run_id: str, files: dict[str, str]) -> None:
    try:
        request = parse_request(files["request.json"])
    except (KeyError, ValueError, TypeError):
        raise InvalidSettingError(f"Run {run_id!r} in the zip has no readable request.json.") from None
    if not isinstance(request, RunRequest):
        raise InvalidSettingError(f"Run {run_id!r} in the zip is a probe; only runs can be imported.")
    try:
        request.validate()
    except InvalidSettingError as error:
        raise InvalidSettingError(
            f"Run {run_id!r} in the zip cannot be read, so nothing was imported. {error}"
        ) from None
    if request.run_id != run_id:
        raise InvalidSettingError(f"Run {run_id!r} in the zip calls itself {request.run_id!r}.")
    events = [parse_event(line.encode()) for line in files.get("events.jsonl", "").split("\n")]
    if not RunRecord(request=request).after_all(e for e in events if e is not None).state.ended:
        raise InvalidSettingError(f"Run {run_id!r} in the zip has not ended; only ended runs can be imported.")
