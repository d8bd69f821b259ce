"""All engines of RankViz, by name."""

import math
from collections.abc import Collection, Sequence

from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.errors import InvalidSettingError, quoted
from rankviz.jobs.engine import Engine
from rankviz.settings import Settings
from rankviz.store import RunStore

KNOWN = (LOCAL, HF_JOBS, RAY, SLURM)


def require(name: str, known: Collection[str] = KNOWN) -> str:
    """Return `name` where an engine has this name; raise InvalidSettingError otherwise."""
    if name not in known:
        raise InvalidSettingError(f"There is no engine {quoted(name)}. Known: {', '.join(known)}.")
    return name


def engines(store: RunStore, settings: Settings) -> Sequence[Engine]:
    """Return all engines, the default one first. An engine that is not set up here reports this when it is used."""
    from rankviz.jobs.hf_jobs import HfJobs
    from rankviz.jobs.hub import Logins
    from rankviz.jobs.local import Local
    from rankviz.jobs.ray import Ray
    from rankviz.jobs.remote import JobLimits
    from rankviz.jobs.slurm import Slurm
    from rankviz.machine import memory_bytes

    def chosen(prefix: str, *names: str) -> dict:
        return {name: getattr(settings, f"{prefix}_{name}") for name in names}

    first, limits = require(settings.engine), JobLimits.of(settings.limits)
    for name, value in (("RANKVIZ_RAY_ADDRESS", settings.ray_address), ("RANKVIZ_RAY_STORAGE", settings.ray_storage)):
        if first == RAY and not value:
            raise InvalidSettingError(f"RANKVIZ_ENGINE is ray, so {name} must be set.")
    percent, logins = settings.limits.worker_memory_percent, Logins(of_machine=not settings.shared)
    most = math.inf if percent is None else memory_bytes() * percent / 100
    with_slurm = bool(settings.slurm_partition) or first == SLURM
    ray = chosen("ray", "address", "resources", "labels", "storage")
    made = [
        Local(store.home, most_gpus=settings.gpus, niceness=settings.niceness, memory_bytes=most),
        HfJobs(store, logins, limits=limits, **chosen("jobs", "image", "spend", "flavor")),
        Ray(store, sees_folders=settings.ray_same_folders, limits=limits, **ray),
        Slurm(store, is_set_up=with_slurm, **chosen("slurm", "partition", "options", "python")),
    ]
    return sorted(made, key=lambda engine: engine.name != first)
