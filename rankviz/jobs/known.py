"""All engines of RankViz, by name. The module of an engine is imported only where the engine is used."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.errors import InvalidSettingError, quoted
from rankviz.jobs.engine import Engine
from rankviz.settings import Settings
from rankviz.store import RunStore


def _local(store: RunStore, settings: Settings) -> Engine:
    from rankviz.jobs.local import Local
    from rankviz.machine import memory_bytes

    percent = settings.limits.worker_memory_percent
    most = math.inf if percent is None else memory_bytes() * percent / 100
    return Local(store.home, most_gpus=settings.gpus, niceness=settings.niceness, memory_bytes=most)


def _hf_jobs(store: RunStore, settings: Settings) -> Engine:
    from rankviz.jobs.hf_jobs import HfJobs
    from rankviz.jobs.hub import Logins
    from rankviz.jobs.submission import JobLimits

    chosen = {"image": settings.jobs_image, "spend": settings.jobs_spend, "flavor": settings.jobs_flavor}
    return HfJobs(store, Logins(of_machine=not settings.shared), limits=JobLimits.of(settings.limits), **chosen)


def _ray(store: RunStore, settings: Settings) -> Engine:
    from rankviz.jobs.ray import Ray
    from rankviz.jobs.submission import JobLimits

    chosen = {name: getattr(settings, f"ray_{name}") for name in ("address", "resources", "labels", "storage")}
    limits = JobLimits.of(settings.limits)
    return Ray(store, sees_folders=settings.ray_same_folders, limits=limits, **chosen)


def _slurm(store: RunStore, settings: Settings) -> Engine:
    from rankviz.jobs.slurm import Slurm

    chosen = {name: getattr(settings, f"slurm_{name}") for name in ("partition", "options", "python")}
    return Slurm(store, is_set_up=bool(settings.slurm_partition) or settings.engine == SLURM, **chosen)


KNOWN: Mapping[str, Callable[[RunStore, Settings], Engine]] = {
    LOCAL: _local,
    HF_JOBS: _hf_jobs,
    RAY: _ray,
    SLURM: _slurm,
}


def require(name: str, known: Collection[str] = KNOWN) -> str:
    """Return `name` where an engine has this name; raise InvalidSettingError otherwise."""
    if name not in known:
        raise InvalidSettingError(f"There is no engine {quoted(name)}. Known: {', '.join(known)}.")
    return name


def engines(store: RunStore, settings: Settings) -> Sequence[Engine]:
    """Return all engines, the default one first. An engine that is not set up here reports this when it is used."""
    first = require(settings.engine)
    for name, value in (("RANKVIZ_RAY_ADDRESS", settings.ray_address), ("RANKVIZ_RAY_STORAGE", settings.ray_storage)):
        if first == RAY and not value:
            raise InvalidSettingError(f"RANKVIZ_ENGINE is ray, so {name} must be set.")
    return [KNOWN[name](store, settings) for name in (first, *(name for name in KNOWN if name != first))]
