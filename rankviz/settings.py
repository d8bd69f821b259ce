"""Reads the settings of a server and its limits from environment variables.
A variable is named RANKVIZ_ and a field of Settings, or RANKVIZ_MAX_ and a row of TUNABLE; other limits are fixed."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

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


Reader = Callable[[str], Any]
"""Converts the text of a variable; ValueError says what it must be."""


def _checked(make: Reader, valid: Callable[[Any], Any], words: str) -> Reader:
    def read(text: str) -> Any:
        try:
            value = make(text)
        except (ValueError, RecursionError):
            value = None
        if value is None or not valid(value):
            raise ValueError(words)
        return value

    return read


def _matching(pattern: str) -> Reader:
    return _checked(str, re.compile(pattern).fullmatch, "it has a letter that cannot stand there, or too many")


def _json(kind: type, each: Callable[[Any], bool], words: str, least: int = 0) -> Reader:
    def valid(value: Any) -> bool:
        fits = isinstance(value, kind) and len(value) >= least
        return fits and all(map(each, value.values() if kind is dict else value))

    return _checked(json.loads, valid, f"it must be JSON: {words}")


def _is_amount(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


FLAGS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)
FLAGS |= dict.fromkeys(("0", "false", "f", "no", "n", "off"), False)
_flag = _checked(lambda text: FLAGS.get(text.lower()), lambda value: True, "it must be 1 or 0")
_amount = _checked(float, _is_amount, "it must be a number above 0")
_count = _checked(int, lambda value: value >= 1, "it must be a whole number of at least 1")


def _setting(about: str, default: Any = "", reads: Reader = str, **more: Any) -> Any:
    """Return a field of Settings. default: The value, or a function that makes it. reads: Converts the variable."""
    make = default if callable(default) else lambda: default
    return field(default_factory=make, metadata={"about": about, "reads": reads}, **more)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one server. A field without repr is a secret."""

    home: Path = _setting("The runs folder", paths.home, Path)  # noqa: RUF009
    shared: bool = _setting(
        "Whether strangers use the page: limits, owners, and no path of the machine is read",
        lambda: "SPACE_ID" in os.environ,
        _flag,
    )
    hosts: str = _setting(
        "Names at which browsers open the page, separated by commas: `ranks.example.org,*.lab.example`. IP "
        "addresses, localhost, the name of this machine and those of a Space need not be named; `*` is any name",
        reads=_matching(rf"{HOST_NAME}(\s*,\s*{HOST_NAME})*"),
    )
    engine: str = _setting("The engine of runs that name none", "local")
    gpus: int | None = _setting(
        "GPUs of this machine that train at once, one worker each; without it all that are alike", None, _count
    )
    jobs_flavor: str = _setting("The machine of a sweep on Hugging Face Jobs that names none", JOBS_FLAVOR)
    jobs_spend: float = _setting(
        "US dollars that a sweep on Hugging Face Jobs may cost where it gives no limit", JOBS_SPEND, _amount
    )
    jobs_image: str = _setting("The image of a Hugging Face job, which has Unsloth", JOBS_IMAGE)
    ray_address: str = _setting(
        "The address of the dashboard of a Ray cluster, such as http://10.0.0.1:8265",
        reads=_matching(r"https?://[\w.:\[\]/-]+"),
    )
    ray_storage: str = _setting(
        "A folder or URI that this machine and all Ray nodes see: /shared/rankviz, s3://bucket/rankviz"
    )
    ray_resources: Mapping[str, float] = _setting(
        "What a job takes of a Ray node, as JSON, by Ray's names",
        lambda: dict(RAY_RESOURCES),
        _json(dict, _is_amount, 'numbers above 0 by name, such as {"GPU": 1}', 1),
    )
    ray_labels: Mapping[str, str] = _setting(
        'Labels that a Ray node must have for a job, as JSON: `{"gpu": "l4"}`',
        dict,
        _json(dict, lambda value: isinstance(value, str), 'texts by name, such as {"gpu": "l4"}'),
    )
    ray_same_folders: bool = _setting(
        "Whether Ray nodes see the folders of this machine under the same paths, as on a shared disk", False, _flag
    )
    slurm_partition: str = _setting(
        "The partition of Slurm jobs; without it the cluster's default", reads=_matching(r"[\w.,][\w.,-]{0,199}")
    )
    slurm_options: Sequence[str] = _setting(
        'More options of sbatch, as JSON: `["--gres=gpu:1", "--time=4:00:00", "--account=lab"]`',
        lambda: [*SLURM_OPTIONS],
        _json(list, lambda value: isinstance(value, str), 'a list of texts, such as ["--gres=gpu:1"]'),
    )
    slurm_python: str = _setting(
        "The command that starts Python on a Slurm node, with RankViz installed: "
        "`apptainer exec --nv rankviz.sif python`; without it the page's Python, by the same path"
    )
    admin_token: str | None = _setting("Who knows it may see and end everything: make it random", None, repr=False)
    cookie_key: str | None = _setting(
        "Signs the cookies of visitors; without it a key is made and kept in the runs folder", None, repr=False
    )

    @property
    def niceness(self) -> int:
        """Niceness of training processes. On a shared page they give way to the page, which has to answer at once."""
        return 10 if self.shared else 0

    @cached_property
    def limits(self) -> Limits:
        """Limits of one visitor, and of all visitors together."""
        return read_limits(self.shared)


def read(**given: Any) -> Settings:
    """Return the settings; raise InvalidSettingError for an invalid variable; an empty one counts as not set. given:
    Fields that override the environment."""
    values = dict(given)
    for each in fields(Settings):
        variable, about = f"RANKVIZ_{each.name.upper()}", f"It holds: {each.metadata['about']}."
        if each.name in given or not (text := os.environ.get(variable)):
            continue
        try:
            value = values[each.name] = each.metadata["reads"](text)
        except ValueError as error:
            raise InvalidSettingError(f"{variable} cannot be {quoted(text)}: {error}. {about}") from None
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InvalidSettingError(f"{variable} has bytes that are no text.")
        if not each.repr and len(value.strip()) < MIN_SECRET:
            why = f"it must have at least {MIN_SECRET} letters; `openssl rand -hex 32` makes one"
            raise InvalidSettingError(f"{variable} cannot be so short: {why}. {about}")
    return Settings(**values)


def unread_variables() -> list[str]:
    """Return the RANKVIZ_ variables of the environment that no setting reads, such as those of an older version."""
    read = {f"RANKVIZ_{name.upper()}" for name in (*(x.name for x in fields(Settings)), *(f"max_{x}" for x in TUNABLE))}
    return sorted(name for name in os.environ if name.upper().startswith("RANKVIZ_") and name not in read)


def port() -> int:
    """Return the port to listen on, from the variable that Gradio also reads."""
    text = os.environ.get(PORT, "7860")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise InvalidSettingError(f"{PORT} must be a whole number from 1 to 65,535 (got {quoted(text)}).")
    return int(text)
