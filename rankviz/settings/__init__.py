"""Every setting of a server, from environment variables: where things are, who may use it, and how much.

A variable is RANKVIZ_ and the name of a field of Settings, or RANKVIZ_MAX_ and that of a limit. An empty limit is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rankviz import paths
from rankviz.errors import InvalidSettingError, quoted
from rankviz.settings.ray_amounts import as_ray_takes
from rankviz.settings.reasons import reason

Count = Annotated[int, Field(ge=0)]
PORT = "GRADIO_SERVER_PORT"
MIN_SECRET, SHARED_NICENESS = 16, 10
PAID_STEPS = 10_000
"""Of one run on a machine that its owner pays for: its journal is kept here."""
JOBS_IMAGE, JOBS_FLAVOR, JOBS_SPEND, JOBS_AT_ONCE = "unsloth/unsloth:latest", "l4x1", 2.0, 8
SLURM_OPTIONS, SLURM_AT_ONCE, SLURM_POLL_SECONDS = ("--gres=gpu:1",), 4, 10.0
RAY_RESOURCES: Mapping[str, float] = MappingProxyType({"GPU": 1.0})
"""What engines do where neither the environment nor a sweep says otherwise."""
HOST_NAME = r"(\*|(\*\.)?[^\s,*]+)"
Read = TypeVar("Read", bound=BaseSettings)


def _from_json(value: object) -> object:
    """Of a variable's text; JSON that cannot be read is an error of that variable."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("it must be JSON") from None


Texts = Annotated[list[str], NoDecode, BeforeValidator(_from_json)]
TextsByName = Annotated[dict[str, str], NoDecode, BeforeValidator(_from_json)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amounts = Annotated[dict[str, Amount], NoDecode, BeforeValidator(_from_json), AfterValidator(as_ray_takes)]


class Limits(BaseSettings):
    """Of a page that one person uses: as far as the machine goes."""

    model_config = SettingsConfigDict(env_prefix="RANKVIZ_MAX_", env_parse_none_str="", frozen=True, extra="ignore")

    sweeps_per_visitor: Count | None = Field(None, description="Sweeps of one visitor that are queued or running")
    sweeps: Count | None = Field(None, description="Sweeps of all visitors that are queued or running")
    first_sweeps: Count | None = Field(
        None, description="The same where whoever starts one has none queued or running; at least as many as above"
    )
    runs_per_sweep: Count = Field(256, description="Runs of one sweep")
    truncations: Count | None = Field(None, description="Lower ranks that the adapter of one run is truncated to")
    steps: Count = Field(1_000_000, description="Optimizer steps of one run")
    rank: Count = Field(1024, description="Rank of a run")
    tokens_per_batch: Count | None = Field(None, description="Batch size × maximum length of a run")
    held_out_tokens: Count | None = Field(None, description="Held-out examples × maximum length of a run")
    base_parameters: Count | None = Field(None, description="Parameters of the base model of a run or probe")
    run_minutes: Count | None = Field(None, description="Minutes that one run may take before it is ended")
    worker_memory_percent: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None,
        description="Percent of this machine's memory, or of its container's limit, that trainings may take together; "
        "one that takes more than its part is ended",
    )
    attempts: Annotated[int, Field(ge=1)] = Field(
        2, description="Attempts of a run whose worker, node or job is lost; an error of the run itself is not retried"
    )
    runs_kept: Count | None = Field(
        None, description="Runs and probes of one visitor that are kept, queued ones too; ended probes make room"
    )
    runs_in_total: Count | None = Field(
        None,
        description="The same of all visitors together; the oldest ended runs that were imported or not completed make "
        "room",
    )
    days_kept: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Days after its end for which a visitor's run or probe is kept"
    )
    upload_mb: Count = Field(1000, description="MB (10^6 bytes) of one uploaded file")
    uploads_per_visitor: Count | None = Field(None, description="Uploaded files that are kept of one visitor")
    files_mb_per_visitor: Count | None = Field(
        None,
        description="MB of all files of one visitor: uploads, the data and journals of runs, and result files; and as "
        "much again of their downloads, of which the newest stays whatever its size",
    )
    adapters_mb_per_visitor: Count | None = Field(
        None, description="MB of the adapters of one visitor's runs, those that queued runs will save included"
    )
    result_files: Count = Field(500, description="Result files (added to the studies) that are kept of one visitor")
    temp_mb: Count | None = Field(
        None,
        description="MB of all uploads and downloads that are kept for a while; the oldest downloads make room, then "
        "uploads of the visitors who have most",
    )
    import_mb: Count = Field(200, description="MB that one imported zip of runs unpacks to")
    runs_per_import: Count = Field(2048, description="Runs of one imported zip")
    events_per_run: Count = Field(2_000_000, description="Events in the journal of an imported run")
    values_per_import: Count | None = Field(None, description="Values in the events of one imported zip of runs")
    record_kb: Count | None = Field(None, description="kB of memory that is kept for an imported run")
    example_numbers: Count | None = Field(
        None, description="Numbers of held-out examples (losses, tokens, matches) in runs that are compared"
    )
    disk_mb: Count | None = Field(
        None,
        description="MB in the runs folder, with the adapters that queued runs will save, beyond which nothing new "
        "starts; bases from the Hub that nobody waits for make room, then runs",
    )
    introspections: Annotated[int, Field(ge=1)] = Field(
        2,
        description="Adapters, data files, imports and large sweeps that are read at once; and as many models that are "
        "laid out",
    )
    child_seconds: Annotated[int, Field(ge=1)] = Field(120, description="Seconds that reading one of them may take")
    child_memory_mb: Annotated[int, Field(ge=256)] = Field(16_000, description="MB of memory that reading one may take")
    sends: Annotated[int, Field(ge=1)] = Field(2, description="Sweeps and runs that are published at once")
    send_seconds: Annotated[int, Field(ge=1)] = Field(900, description="Seconds that publishing one may take")
    hub_lookups: Annotated[int, Field(ge=1)] = Field(
        4, description="Models and adapters that are looked up at the Hub at once"
    )
    download_seconds: Annotated[int, Field(ge=1)] = Field(
        3600, description="Seconds that fetching one adapter from the Hub may take"
    )
    adapter_mb: Count = Field(64_000, description="MB of a trained adapter's weights, unpacked")
    adapter_values: Count = Field(
        10_000_000, description="Singular values of a trained adapter: its updates times their rank"
    )


class SharedLimits(Limits):
    """Of a page that strangers use: what a free Space with two cores and 16 GB can bear."""

    sweeps_per_visitor: Count | None = 2
    sweeps: Count | None = 20
    first_sweeps: Count | None = 100
    runs_per_sweep: Count = 12
    truncations: Count | None = 12
    steps: Count = 200
    rank: Count = 256
    tokens_per_batch: Count | None = 8192
    held_out_tokens: Count | None = 65_536
    base_parameters: Count | None = 1_000_000_000
    run_minutes: Count | None = 20
    worker_memory_percent: Annotated[int, Field(ge=1, le=100)] | None = 65
    runs_kept: Count | None = 60
    runs_in_total: Count | None = 3_000
    days_kept: Annotated[int, Field(ge=1)] | None = 30
    upload_mb: Count = 100
    uploads_per_visitor: Count | None = 20
    files_mb_per_visitor: Count | None = 300
    adapters_mb_per_visitor: Count | None = 2_000
    result_files: Count = 50
    temp_mb: Count | None = 5_000
    import_mb: Count = 50
    runs_per_import: Count = 60
    events_per_run: Count = 20_000
    values_per_import: Count | None = 1_000_000
    record_kb: Count | None = 200
    example_numbers: Count | None = 5_000_000
    disk_mb: Count | None = 20_000
    introspections: Annotated[int, Field(ge=1)] = 1
    child_seconds: Annotated[int, Field(ge=1)] = 60
    child_memory_mb: Annotated[int, Field(ge=256)] = 4_000
    send_seconds: Annotated[int, Field(ge=1)] = 300
    hub_lookups: Annotated[int, Field(ge=1)] = 2
    download_seconds: Annotated[int, Field(ge=1)] = 60
    adapter_mb: Count = 1_000
    adapter_values: Count = 100_000


def paid_limits(limits: Limits) -> Limits:
    """Of runs on a machine that their owner pays for: what this server keeps of them is limited, not what they need."""
    needs = ("tokens_per_batch", "held_out_tokens", "base_parameters", "run_minutes")
    return limits.model_copy(update={**dict.fromkeys(needs), "steps": max(limits.steps, PAID_STEPS)})


class Settings(BaseSettings):
    """Of one server."""

    model_config = SettingsConfigDict(
        env_prefix="RANKVIZ_", env_ignore_empty=True, frozen=True, extra="ignore", ignored_types=(cached_property,)
    )

    home: Path = Field(default_factory=paths.home, description="The runs folder")
    shared: bool = Field(
        default_factory=lambda: "SPACE_ID" in os.environ,
        description="Whether strangers use the page: limits, owners, and no path of the machine is read",
    )
    hosts: Annotated[str, Field(pattern=rf"^({HOST_NAME}(\s*,\s*{HOST_NAME})*)?$")] = Field(
        "",
        description="Names at which browsers open the page, separated by commas: `ranks.example.org,*.lab.example`. IP "
        "addresses, localhost, the name of this machine and those of a Space need not be named; `*` is any name",
    )
    engine: str = Field("local", description="The engine of runs that name none")
    gpus: Annotated[int, Field(ge=1)] | None = Field(
        None, description="GPUs of this machine that train at once, one worker each; without it all that are alike"
    )
    split_runs: Annotated[int, Field(ge=1)] = Field(
        3, description="Runs that a worker must have at least for a sweep to be divided among free GPUs"
    )
    jobs_flavor: str = Field(JOBS_FLAVOR, description="The machine of a sweep on Hugging Face Jobs that names none")
    jobs_spend: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        JOBS_SPEND, description="US dollars that a sweep on Hugging Face Jobs may cost where it gives no limit"
    )
    jobs_at_once: Annotated[int, Field(ge=1)] = Field(
        JOBS_AT_ONCE, description="Hugging Face jobs of all visitors together"
    )
    jobs_image: str = Field(
        JOBS_IMAGE,
        description="The image of a Hugging Face job; one without Unsloth must have uv, which installs it",
    )
    ray_address: Annotated[str, Field(pattern=r"^(https?://[\w.:\[\]/-]+)?$")] = Field(
        "", description="The address of the dashboard of a Ray cluster, such as http://10.0.0.1:8265"
    )
    ray_storage: str = Field(
        "", description="A folder or URI that this machine and all Ray nodes see: /shared/rankviz, s3://bucket/rankviz"
    )
    ray_resources: Amounts = Field(
        dict(RAY_RESOURCES), min_length=1, description="What a job takes of a Ray node, as JSON, by Ray's names"
    )
    ray_labels: TextsByName = Field(
        {}, description='Labels that a Ray node must have for a job, as JSON: `{"gpu": "l4"}`'
    )
    ray_same_folders: bool = Field(
        False, description="Whether Ray nodes see the folders of this machine under the same paths, as on a shared disk"
    )
    slurm_partition: Annotated[str, Field(pattern=r"^([\w.,][\w.,-]*)?$", max_length=200)] = Field(
        "", description="The partition of Slurm jobs; without it the cluster's default"
    )
    slurm_options: Texts = Field(
        [*SLURM_OPTIONS],
        description='More options of sbatch, as JSON: `["--gres=gpu:1", "--time=4:00:00", "--account=lab"]`',
    )
    slurm_python: str = Field(
        "",
        description="The command that starts Python on a Slurm node, with RankViz installed: "
        "`apptainer exec --nv rankviz.sif python`; without it the page's Python, by the same path",
    )
    slurm_at_once: Annotated[int, Field(ge=1)] = Field(
        SLURM_AT_ONCE, description="Slurm jobs of all visitors together, running or waiting in Slurm's queue"
    )
    slurm_poll_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        SLURM_POLL_SECONDS, description="Seconds between two questions to Slurm, each for all jobs at once"
    )
    temp_hours: Annotated[int, Field(ge=1)] = Field(24, description="Hours that uploads and downloads are kept")
    worker_niceness: Annotated[int, Field(ge=0, le=19)] | None = Field(
        None, description="How far the priority of a training is below that of the page; 10 on a shared page"
    )
    admin_token: SecretStr | None = Field(None, description="Who knows it may see and end everything: make it random")
    cookie_key: SecretStr | None = Field(
        None, description="Signs the cookies of visitors; without it a key is made and kept in the runs folder"
    )

    @property
    def niceness(self) -> int:
        """Of workers. On a shared page they yield the processors to the page, whose answers take milliseconds."""
        own = SHARED_NICENESS if self.shared else 0
        return own if self.worker_niceness is None else self.worker_niceness

    @cached_property
    def limits(self) -> Limits:
        """What one visitor and all together may use."""
        return read(SharedLimits if self.shared else Limits)


def read(kind: type[Read], **given: object) -> Read:
    """The settings that the environment gives. InvalidSettingError names the first wrong variable.

    given: goes before the environment.
    """
    prefix = kind.model_config["env_prefix"]
    try:
        settings = kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field, *inside = map(str, first["loc"])
        name, place = f"{prefix}{field}".upper(), f" ({', '.join(inside)})" if inside else ""
        raise InvalidSettingError(
            f"{name} cannot be {quoted(first['input'])}{place}: {reason(first)}. It holds: {_about(kind, field)}."
        ) from None
    for field, value in settings:
        secret, name = isinstance(value, SecretStr), f"{prefix}{field}".upper()
        text = value.get_secret_value() if secret else value
        if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InvalidSettingError(f"{name} has bytes that are no text.")
        if secret and len(text.strip()) < MIN_SECRET:
            why = f"it must have at least {MIN_SECRET} letters; `openssl rand -hex 32` makes one"
            raise InvalidSettingError(f"{name} cannot be so short: {why}. It holds: {_about(kind, field)}.")
    return settings


def _about(kind: type[BaseSettings], field: str) -> str:
    """A class that changes a default has no description of its own."""
    fields = (each.model_fields[field] for each in kind.__mro__ if field in getattr(each, "model_fields", {}))
    return next((each.description for each in fields if each.description), "")


def port() -> int:
    """The port to listen on, as the environment says. Gradio reads it too, as soon as it is imported."""
    text = os.environ.get(PORT, "7860")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise InvalidSettingError(f"{PORT} must be a whole number from 1 to 65,535 (got {quoted(text)}).")
    return int(text)
