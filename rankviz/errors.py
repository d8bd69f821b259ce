"""The tree of errors: who can fix what.

RankVizError
  UserError                 someone can fix it; the message says how
    UnknownModelError (NoSuchPathError), GatedModelError, BadConfigError, UnknownGpuError, InvalidSettingError,
    BadDataError, BadAdapterError, RunNotFoundError, NotYoursError, LimitError (BusyError), NotInstalledError,
    PublishError
  AssetError                RankViz's own data is broken
  HubUnavailableError (HubSilentError), StorageError (RunUnreadError), EngineError,
  EngineUnavailableError (EngineDeclinedError), WorkerError
"""

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from json import JSONDecodeError
from typing import Any

MAX_MESSAGE = 4000
"""Most characters of an error message, with the texts that it quotes."""
SHOWN = 200
"""Most characters of a user's text (a name, a path) that a message quotes."""
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "RAY_AUTH_TOKEN")
MIN_TOKEN_CHARACTERS = 8
"""Fewest characters of a secret token that is removed from texts: a shorter word may occur in any sentence."""
HF_TOKEN_PATTERN = re.compile(
    r"hf_(?:(?<![\w/.-]hf_)|(?<=\\[abfnrtv]hf_)|(?<=\\x[0-9a-f]{2}hf_)|(?<=\\u[0-9a-f]{4}hf_))"
    r"(?:oauth_[\w.-]{20,}\w|[A-Za-z0-9]{20,})"
)
"""Pattern of Hugging Face tokens: at the start of a word, or after an escape such as "\\n" in quoted text."""

DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""errno values of an OSError that says a disk cannot be written. The file that was being read may be valid."""
PATH_ERRNOS = (
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY),
    *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG),
)
"""errno values of an OSError for a missing, forbidden or wrong kind of file, where another try would not help."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, then its cause, then the cause of that cause, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def quoted(name: object) -> str:
    """Return a user's text for a message: in quotes, on one line, and shortened."""
    return repr(shortened(str(name), SHOWN))


def redacted(text: str, *tokens: str) -> str:
    """Remove the given tokens, those of this process's variables, and all like Hugging Face's from a text."""
    for token in (*tokens, *(os.environ.get(name, "").strip() for name in TOKEN_VARIABLES)):
        if len(token) >= MIN_TOKEN_CHARACTERS:
            text = text.replace(token, "...")
    return HF_TOKEN_PATTERN.sub("...", text)


def in_a_line(text: object, most: int, *tokens: str) -> str:
    """Return the first `most` characters of a text of a cluster or the Hub, on one line, without tokens."""
    return redacted(" ".join(str(text).split()), *tokens)[:most]


def redacted_in(value: Any) -> Any:
    """Return a JSON value with tokens removed from all its texts, keys included."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {redacted_in(name): redacted_in(each) for name, each in value.items()}
    return [redacted_in(each) for each in value] if isinstance(value, list | tuple) else value


def shortened(text: str, most: int) -> str:
    """Cut a text to `most` characters, without tokens: half a token would not be recognized."""
    if len(text) > most:
        text = redacted(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def json_place(error: Exception) -> str:
    """Return where a text stops to be JSON, in words: " at character 43", " at line 2, character 7"."""
    if not isinstance(error, JSONDecodeError):
        return ""
    return f" at {f'line {error.lineno}, ' * (error.lineno > 1)}character {error.colno}"


def after_first_word(log: bytes) -> bytes:
    """Drop the first word of a log's tail, because it may be the end of a token that was cut in two."""
    space = re.search(rb"\s", log)
    return log[space.end() :] if space else b""


class RankVizError(Exception):
    """Base class of every error that RankViz raises itself; tokens are removed from its message."""

    def __init__(self, *args: object):
        super().__init__(*(shortened(redacted(each), MAX_MESSAGE) if isinstance(each, str) else each for each in args))


class UserError(RankVizError):
    """An error that the user can fix; the message says how."""


class UnknownModelError(UserError):
    """The model is not in the catalogue, on the Hub or on disk."""

    def __init__(self, model_id: str, suggestions: tuple[str, ...] = (), reason: str = ""):
        hint = "" if reason else " Give its id on the Hub, such as Qwen/Qwen3-4B."
        if suggestions:
            hint = f" Did you mean {' or '.join(repr(s) for s in suggestions)}?"
        super().__init__(f"No model {quoted(model_id)} in the catalogue{reason and ', ' + reason}.{hint}")


class NoSuchPathError(UnknownModelError):
    """The model is given as a path at which there is no file or folder."""

    def __init__(self, path: str):
        UserError.__init__(self, f"There is no folder or file {quoted(path)}.")


class GatedModelError(UserError):
    """The Hub gives this model only to users who have accepted its licence."""

    def __init__(self, model_id: str):
        super().__init__(
            f"{quoted(model_id)} is gated or private on the Hub. Upload its config.json here; or, on your own machine, "
            "accept its licence there and set HF_TOKEN."
        )


class BadConfigError(UserError):
    """A config.json is malformed, too large or of an unknown architecture."""


class UnknownGpuError(UserError):
    """The GPU is not in RankViz's table."""

    def __init__(self, gpu: str, known: tuple[str, ...]):
        super().__init__(f"No GPU {quoted(gpu)} in the table. Known: {', '.join(known)}.")


class InvalidSettingError(UserError):
    """A setting is out of range, or excludes another setting."""


class BadDataError(UserError):
    """A training file cannot be read; the message names the row."""

    columns: Sequence[str] = ()
    """The file's columns, where none of their names tell what they hold, or those that were chosen are missing."""


class BadAdapterError(UserError):
    """An adapter cannot be read or resized; the message names the file or the module."""


class RunNotFoundError(UserError):
    """The run or sweep does not exist, or this visitor may not see it."""

    def __init__(self, run_id: str):
        super().__init__(f"No run or sweep {quoted(run_id)} here.")


class NotYoursError(UserError):
    """The run belongs to another visitor: this visitor may see it but not change it."""

    def __init__(self, run_id: str):
        super().__init__(f"{quoted(run_id)} belongs to another visitor: you can look at it, not change it.")


class LimitError(UserError):
    """A request exceeds a limit of this server for one visitor or for all; the message names the limit."""

    limit = ""
    """Name of the limit, a field of Limits; empty for an error that a child process reported (children.remade)."""

    def __init__(self, message: str, limit: str = ""):
        self.limit = limit
        super().__init__(message)


class BusyError(LimitError):
    """All places for this work are taken now; a later try may succeed."""


class NotInstalledError(UserError):
    """A library is missing that the light install leaves out; the message says how to add it."""


class PublishError(UserError):
    """The Hub or Trackio refuses an upload; the message says what to do."""


class AssetError(RankVizError):
    """RankViz's own data is broken; the message names file, row, field and remedy."""


class HubUnavailableError(RankVizError):
    """The Hub cannot answer the request now; a later try may succeed."""


class HubSilentError(HubUnavailableError):
    """The Hub does not answer, or there is no network; for a while RankViz sends no more requests to the Hub."""


class StorageError(RankVizError):
    """The runs folder cannot be written; the message says why and what to do."""


class RunUnreadError(StorageError, OSError):
    """A run exists but cannot be read at the moment."""

    def __init__(self, run_id: str, why: str):
        super().__init__(f"Run {quoted(run_id)} cannot be read now ({why}). Try again later.")


class EngineError(RankVizError):
    """An engine refused a job, or the job's result is missing; the message says why and what to do."""


class EngineUnavailableError(RankVizError):
    """An engine cannot be reached or cannot start a job now; RankViz asks it again later."""


class EngineDeclinedError(EngineUnavailableError):
    """An engine refused a request for now, before doing any of it; not raised where the engine's answer was lost."""


class WorkerError(RankVizError):
    """A worker process failed; the message names its exit code."""
