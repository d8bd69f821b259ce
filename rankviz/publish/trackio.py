"""Sends finished runs to a Trackio project: configuration, loss by step, evaluation and memory, each run once.

The library is an argument, so that the code can be read and tested without Trackio.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rankviz.core.runs.record import RunRecord
from rankviz.errors import PublishError, quoted
from rankviz.publish.files import RunFacts, SweepFacts, data_label, public_environment

QUIET = {"resume": "never", "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}


def send(trackio: Any, sweep: SweepFacts, project: str, on_run: Callable[[int], None], **where: Any) -> None:
    """Send the sweep's runs; a run that the local project already has is replaced. trackio: the library. on_run:
    called before each run with the number of runs sent. where: space_id and private for a Space, which must not have
    any of these runs."""
    if not where:
        forget(trackio, project, {run.record.run_id for run in sweep.runs})
    for count, run in enumerate(sweep.runs):
        on_run(count)
        with warnings.catch_warnings(record=True) as trouble:
            warnings.simplefilter("always")
            trackio.init(
                project=project,
                name=run.record.run_id,
                group=sweep.sweep_id,
                config=config(run, sweep),
                **QUIET,
                **where,
            )
            for step, metrics in points(run.record):
                trackio.log(metrics, step=step)
            trackio.finish()
        if where and trouble:
            raise PublishError(f"Trackio could not send everything to {where['space_id']}: {trouble[-1].message}")


def forget(trackio: Any, project: str, run_ids: set[str]) -> None:
    """Delete these runs from a project on this machine; raise PublishError for a run that RankViz did not send."""
    try:
        runs = list(trackio.Api().runs(project))
    except ValueError:  # there is no such project yet
        return
    for run in runs:
        if run.name in run_ids:
            if (run.config or {}).get("made_by") != "RankViz":
                raise PublishError(
                    f"The project {quoted(project)} has a run {quoted(run.name)} that RankViz did not send: choose "
                    "another project."
                )
            run.delete()


def config(run: RunFacts, sweep: SweepFacts) -> Mapping[str, Any]:
    """Return a run's settings, estimate, measurements and cost as Trackio's configuration."""
    record = run.record
    request, done = record.request, record.completed
    training = request.training
    return {
        "made_by": "RankViz",
        "run_id": record.run_id,
        "sweep_id": sweep.sweep_id,
        "base_model": run.base_model,
        "data": data_label(request),
        "r": request.r,
        "lora_alpha": request.lora.lora_alpha,
        "target_modules": request.lora.target_modules,
        "use_rslora": request.lora.use_rslora,
        "use_dora": request.lora.use_dora,
        "expert_rank": request.lora.expert_rank,
        "learning_rate": request.learning_rate,
        "seed": request.seed,
        "framework": training.framework,
        "precision": record.environment.get("precision") or training.precision,
        "max_steps": request.max_steps,
        "held_out_examples": request.held_out_examples,
        "trainable_parameters": record.trainable_parameters,
        "adapter_bytes": record.adapter_bytes,
        "train_seconds": done and done.train_seconds,
        "peak_memory_bytes": done and done.peak_memory_bytes,
        "peak_memory_kind": done and done.peak_memory_kind,
        **run.estimated,
        **sweep.cost,
        "verdict": " ".join(sweep.verdict[:1]),
        "environment": public_environment(record),
    }


def points(record: RunRecord) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yield metrics by step: the base's evaluation at step 0, each training step, the final evaluation at the last."""
    last = record.steps_done
    by_step: dict[int, dict[str, float]] = {
        step.step: {
            "train/loss": step.loss,
            "train/learning_rate": step.learning_rate,
            "train/tokens": step.tokens,
            "train/seconds": step.seconds,
            "memory/bytes": step.memory_bytes,
        }
        for step in record.steps
    }
    for step, held_out in ((0, record.loss_before), (last, record.loss_after)):
        if held_out:
            by_step.setdefault(step, {}).update(_evaluation(held_out))
    if record.completed:
        by_step.setdefault(last, {})["memory/peak_bytes"] = record.completed.peak_memory_bytes
    yield from sorted(by_step.items())


def _evaluation(held_out: Any) -> Mapping[str, float]:
    measured = {"loss": held_out.loss, "token_accuracy": held_out.token_accuracy, "exact_match": held_out.exact_match}
    return {f"eval/{name}": value for name, value in measured.items() if value is not None}


def known_names(records: Sequence[Any]) -> set[str]:
    """Return the run names in a Space's answer to /get_runs_for_project."""
    return {str(record.get("name")) if isinstance(record, Mapping) else str(record) for record in records}
