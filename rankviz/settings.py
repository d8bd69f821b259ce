"""Reads the settings of a server and its limits from environment variables.
A variable is named RANKVIZ_ and a field of Settings, or RANKVIZ_MAX_ and a row of TUNABLE; other limits are fixed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rankviz import paths
from rankviz.errors import InvalidSettingError, quoted

PORT = "GRADIO_SERVER_PORT"
MIN_SECRET = 16
PAID_STEPS = 10_000
"""Most steps of one run on a machine that its owner pays for. There is a limit because this server stores the
journal."""
JOBS_IMAGE, JOBS_FLAVOR, JOBS_SPEND, JOBS_AT_ONCE = "unsloth/unsloth:latest", "l4x1", 2.0, 8
SLURM_OPTIONS, SLURM_AT_ONCE, SLURM_POLL_SECONDS = ("--gres=gpu:1",), 4, 10.0
RAY_RESOURCES: Mapping[str, float] = MappingProxyType({"GPU": 1.0})
TEMP_HOURS = 24
"""Hours after which uploads and downloads are deleted."""
HOST_NAME = r"(\*|(\*\.)?[^\s,*/:]+)"


def _limit(own: int | None, shared: int | None, about: str = "") -> Any:
    """Return a field of Limits with two defaults. own: Limit of a page that one person uses. shared: Limit of a public
    page on a free Space with two cores and 16 GB. about: Description of a limit that a RANKVIZ_MAX_ variable sets."""
    return field(default=own, metadata={"shared": shared, "about": about})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server; the defaults are for one person. None is no limit. MB are 10^6 bytes."""

    sweeps_per_visitor: int | None = _limit(None, 2, "Sweeps of one visitor that are queued or running")
    sweeps: int | None = _limit(
        None, 20, "Sweeps of all visitors that are queued or running; five times as many for who has none"
    )
    first_sweeps: int | None = _limit(None, 100)
    """Open sweeps of all visitors up to which a visitor without one may start one: five times `sweeps`."""
    runs_per_sweep: int = _limit(256, 12, "Runs of one sweep")
    truncations: int | None = _limit(None, 12)
    """Number of lower ranks to which the adapter of one run may be truncated."""
    steps: int = _limit(1_000_000, 200, "Optimizer steps of one run")
    rank: int = _limit(1024, 256)
    tokens_per_batch: int | None = _limit(None, 8192)
    """Most tokens in a batch of a run: batch size × maximum length."""
    held_out_tokens: int | None = _limit(None, 65_536)
    """Most held-out tokens of a run: number of held-out examples × maximum length."""
    base_parameters: int | None = _limit(None, 1_000_000_000, "Parameters of the base model of a run or probe")
    run_minutes: int | None = _limit(None, 20, "Minutes that one run may take before it is ended")
    worker_memory_percent: int | None = _limit(None, 65)
    """Percent of the memory of this machine, or of its container, that all trainings together may take."""
    runs_kept: int | None = _limit(
        None, 60, "Runs and probes of one visitor that are kept, queued ones too; ended probes make room"
    )
    runs_in_total: int | None = _limit(
        None,
        3_000,
        "Runs and probes of all visitors that are kept; the oldest ended runs that were imported or not completed "
        "make room",
    )
    days_kept: int | None = _limit(None, 30, "Days after its end for which a visitor's run or probe is kept")
    upload_mb: int = _limit(1000, 100, "MB (10^6 bytes) of one uploaded file")
    uploads_per_visitor: int | None = _limit(None, 20)
    files_mb_per_visitor: int | None = _limit(
        None,
        300,
        "MB of all files of one visitor: uploads, the data and journals of runs, and result files; and as much "
        "again of their downloads, of which the newest stays whatever its size",
    )
    adapters_mb_per_visitor: int | None = _limit(None, 2_000)
    """MB of the adapters of one visitor's runs, with those that queued runs will save."""
    result_files: int = _limit(500, 50)
    """Number of result files, added to the studies, that are stored for one visitor."""
    import_mb: int = _limit(200, 50)
    """Unpacked MB of one imported zip of runs."""
    runs_per_import: int | None = _limit(None, 60)
    events_per_run: int = _limit(2_000_000, 20_000)
    values_per_import: int | None = _limit(None, 1_000_000)
    """Number of values in the events of one imported zip."""
    record_kb: int | None = _limit(None, 200)
    """kB of memory (10^3 bytes) for the record of one imported run."""
    example_numbers: int | None = _limit(None, 5_000_000)
    """Most numbers on held-out examples (losses, tokens, matches) in runs that are compared."""
    disk_mb: int | None = _limit(
        None,
        20_000,
        "MB in the runs folder beyond which nothing new starts; bases from the Hub that nobody waits for make "
        "room, then runs. A quarter of it is for uploads and downloads",
    )
    temp_mb: int | None = _limit(None, 5_000)
    """MB of all uploads and downloads together: a quarter of `disk_mb`."""
    readers: int = _limit(2, 1)
    """Number of child processes that read adapters, data files, imports and large sweeps at once; also the number of
    models whose layers are computed at once."""
    child_seconds: int = _limit(120, 60)
    child_memory_mb: int = _limit(16_000, 4_000)
    send_seconds: int = _limit(900, 300)
    download_seconds: int = _limit(3600, 60)
    """Seconds for the download of one adapter from the Hub."""
    adapter_mb: int = _limit(64_000, 1_000)
    """MB of a trained adapter's unpacked weights."""
    adapter_values: int = _limit(10_000_000, 100_000)
    """Number of singular values of a trained adapter: number of its updates × their rank."""
    prompts_per_hour: int | None = _limit(None, 20)
    """Prompts of one visitor that a trained adapter answers within an hour."""
    answer_seconds: int = _limit(600, 120)
    """Seconds in which a base and its adapter are loaded and answer one prompt."""
    answer_tokens: int = _limit(256, 128)
    answering_parameters: int | None = _limit(None, 500_000_000)
    """Parameters of a base model that answers prompts; in fp32 they take half of `child_memory_mb`."""


OWN_LIMITS = Limits()
SHARED_LIMITS = Limits(**{each.name: each.metadata["shared"] for each in fields(Limits)})
TUNABLE = {each.name: each.metadata["about"] for each in fields(Limits) if each.metadata["about"]}
"""Description of each limit that a RANKVIZ_MAX_ variable sets, by field of Limits. An empty variable means no limit."""


def read_limits(shared: bool) -> Limits:
    """Return the limits of a server, its RANKVIZ_MAX_ variables included; raise InvalidSettingError for an invalid
    variable. shared: True for a public page."""
    limits, given = SHARED_LIMITS if shared else OWN_LIMITS, {}
    for name, about in TUNABLE.items():
        variable = f"RANKVIZ_MAX_{name.upper()}"
        text, least = os.environ.get(variable), 1 if name == "days_kept" else 0
        if text is None:
            continue
        if not text and getattr(OWN_LIMITS, name) is None:
            given[name] = None
        elif text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least:
            given[name] = int(text)
        else:
            why = f"it must be a whole number of at least {least}"
            raise InvalidSettingError(f"{variable} cannot be {quoted(text)}: {why}. It holds: {about}.")
    if "sweeps" in given:
        given["first_sweeps"] = given["sweeps"] and 5 * given["sweeps"]
    if "disk_mb" in given:
        given["temp_mb"] = given["disk_mb"] and given["disk_mb"] // 4
    return replace(limits, **given)


def paid_limits(limits: Limits) -> Limits:
    """Return the limits of runs on a machine that their owner pays for: none on tokens, base or time; more steps."""
    needs = ("tokens_per_batch", "held_out_tokens", "base_parameters", "run_minutes")
    return replace(limits, **dict.fromkeys(needs), steps=max(limits.steps, PAID_STEPS))


def _from_json(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("it must be JSON") from None


Texts = Annotated[list[str], NoDecode, BeforeValidator(_from_json)]
TextsByName = Annotated[dict[str, str], NoDecode, BeforeValidator(_from_json)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amounts = Annotated[dict[str, Amount], NoDecode, BeforeValidator(_from_json)]


class Settings(BaseSettings):
    """Settings of one server."""

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
    jobs_flavor: str = Field(JOBS_FLAVOR, description="The machine of a sweep on Hugging Face Jobs that names none")
    jobs_spend: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        JOBS_SPEND, description="US dollars that a sweep on Hugging Face Jobs may cost where it gives no limit"
    )
    jobs_image: str = Field(JOBS_IMAGE, description="The image of a Hugging Face job, which has Unsloth")
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
    admin_token: SecretStr | None = Field(None, description="Who knows it may see and end everything: make it random")
    cookie_key: SecretStr | None = Field(
        None, description="Signs the cookies of visitors; without it a key is made and kept in the runs folder"
    )

    @property
    def niceness(self) -> int:
        """Niceness of training processes. On a shared page they give way to the page, which has to answer at once."""
        return 10 if self.shared else 0

    @cached_property
    def limits(self) -> Limits:
        """Limits of one visitor, and of all visitors together."""
        return read_limits(self.shared)


def read(**given: object) -> Settings:
    """Return the settings; InvalidSettingError for an invalid variable. given: Fields that override them."""
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field, *inside = map(str, first["loc"])
        place = f" ({', '.join(inside)})" if inside else ""
        raise InvalidSettingError(_wrong(field, f"{quoted(first['input'])}{place}: {_reason(first)}")) from None
    for field, value in settings:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InvalidSettingError(f"RANKVIZ_{field.upper()} has bytes that are no text.")
        if isinstance(value, SecretStr) and len(text.strip()) < MIN_SECRET:
            why = f"so short: it must have at least {MIN_SECRET} letters; `openssl rand -hex 32` makes one"
            raise InvalidSettingError(_wrong(field, why))
    return settings


REASONS = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "it must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "it must be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "it must be 1 or 0"),
    **dict.fromkeys(("dict_type", "list_type", "string_type"), "it must be JSON of another kind"),
    "greater_than": "it must be more than {gt:g}",
    "greater_than_equal": "it must be at least {ge:g}",
    "string_pattern_mismatch": "it has a letter that cannot stand there",
    "string_too_long": "it may have {max_length} letters",
    "too_short": "it must have an entry",
}
"""Reason in plain words by pydantic's error type; other errors keep pydantic's own words."""


def _reason(error: Mapping[str, Any]) -> str:
    words = REASONS.get(error["type"], error["msg"].removeprefix("Value error, "))
    return words.format(**error.get("ctx", {}))


def why_refused(error: BaseException | None) -> str:
    """Return why pydantic refuses a value; empty for other errors."""
    return _reason(error.errors()[0]) if isinstance(error, ValidationError) else ""


def _wrong(field: str, what: str) -> str:
    return f"RANKVIZ_{field.upper()} cannot be {what}. It holds: {Settings.model_fields[field].description}."


def unread_variables() -> list[str]:
    """Return the RANKVIZ_ variables of the environment that no setting reads, such as those of an older version."""
    read = {f"RANKVIZ_{name.upper()}" for name in (*Settings.model_fields, *(f"max_{name}" for name in TUNABLE))}
    return sorted(name for name in os.environ if name.startswith("RANKVIZ_") and name not in read)


def port() -> int:
    """Return the port to listen on, from the variable that Gradio also reads."""
    text = os.environ.get(PORT, "7860")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise InvalidSettingError(f"{PORT} must be a whole number from 1 to 65,535 (got {quoted(text)}).")
    return int(text)
