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
from collections.abc import Mapping
from typing import Any

LONGEST = 4000
"""Most characters of a message, whatever it quotes."""
SHOWN = 200
"""Most characters of a user's text (a name, a path) in a message."""
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "RAY_AUTH_TOKEN")
LEAST_OF_A_TOKEN = 8
"""Least characters of a token: a shorter word may be part of any sentence."""
OF_HUGGING_FACE = re.compile(
    r"hf_(?:(?<![\w/.-]hf_)|(?<=\\[abfnrtv]hf_)|(?<=\\x[0-9a-f]{2}hf_)|(?<=\\u[0-9a-f]{4}hf_))"
    r"(?:oauth_[\w.-]{20,}\w|[A-Za-z0-9]{20,})"
)
"""Pattern of Hugging Face's tokens, which begin within a word only after an escape such as "\\n" in quoted text."""

OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""errno of an OSError where something could not be written, which says nothing about what was read."""
OF_NAMES = (
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY),
    *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG),
)
"""errno of an OSError for a file that is missing or of another kind: trying again changes nothing."""


def quoted(name: object) -> str:
    """Return a user's text for a message: in quotes, on one line, and shortened."""
    return repr(shortened(str(name), SHOWN))


def redacted(text: str, *tokens: str) -> str:
    """Return a text without tokens: those given, those in this process's variables, and whatever looks like an HF
    token."""
    for token in (*tokens, *(os.environ.get(name, "").strip() for name in TOKEN_VARIABLES)):
        if len(token) >= LEAST_OF_A_TOKEN:
            text = text.replace(token, "...")
    return OF_HUGGING_FACE.sub("...", text)


def redacted_in(value: Any) -> Any:
    """Remove tokens from all texts in a JSON value, keys included."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {redacted_in(name): redacted_in(each) for name, each in value.items()}
    return [redacted_in(each) for each in value] if isinstance(value, list | tuple) else value


def shortened(text: str, most: int) -> str:
    """Return at most `most` characters of a text, without tokens if it is cut: half a token would not be recognized."""
    if len(text) > most:
        text = redacted(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def after_first_word(log: bytes) -> bytes:
    """Drop the first word of a log that was cut anywhere, because it may be the end of a token."""
    space = re.search(rb"\s", log)
    return log[space.end() :] if space else b""


class RankVizError(Exception):
    """Base class of every error that RankViz raises itself; tokens are removed from its message."""

    def __init__(self, *args: object):
        super().__init__(*(shortened(redacted(each), LONGEST) if isinstance(each, str) else each for each in args))


class UserError(RankVizError):
    """An error that the user can fix; the message says how."""


class UnknownModelError(UserError):
    """No such model in the catalogue, on the Hub or on disk."""

    def __init__(self, model_id: str, suggestions: tuple[str, ...] = (), reason: str = ""):
        hint = "" if reason else " Give its id on the Hub, such as Qwen/Qwen3-4B."
        if suggestions:
            hint = f" Did you mean {' or '.join(repr(s) for s in suggestions)}?"
        super().__init__(f"No model {quoted(model_id)} in the catalogue{reason and ', ' + reason}.{hint}")


class NoSuchPathError(UnknownModelError):
    """The model is given as a path, and nothing is there."""

    def __init__(self, path: str):
        UserError.__init__(self, f"There is no folder or file {quoted(path)}.")


class GatedModelError(UserError):
    """The Hub wants a licence accepted first."""

    def __init__(self, model_id: str):
        super().__init__(
            f"{quoted(model_id)} is gated or private on the Hub. Upload its config.json here; or, on your own machine, "
            "accept its licence there and set HF_TOKEN."
        )


class BadConfigError(UserError):
    """A config.json that is malformed, too large or of an unknown architecture."""


class UnknownGpuError(UserError):
    """No such GPU in the table."""

    def __init__(self, gpu: str, known: tuple[str, ...]):
        super().__init__(f"No GPU {quoted(gpu)} in the table. Known: {', '.join(known)}.")


class InvalidSettingError(UserError):
    """A setting out of range, or two that exclude each other."""


class BadDataError(UserError):
    """A training file that cannot be read; the message names the row."""


class BadAdapterError(UserError):
    """An adapter that cannot be read or resized; the message names the file or the module."""


class RunNotFoundError(UserError):
    """No such run or sweep, or none that this visitor may see."""

    def __init__(self, run_id: str):
        super().__init__(f"No run or sweep {quoted(run_id)} here.")


class NotYoursError(UserError):
    """A run of another visitor, which may be seen and not changed."""

    def __init__(self, run_id: str):
        super().__init__(f"{quoted(run_id)} belongs to another visitor: you can look at it, not change it.")


class LimitError(UserError):
    """More than this server allows a visitor, or all visitors together; the message names the limit."""

    limit = ""
    """Name of the limit; empty for an error that `children.remade` made."""

    def __init__(self, message: str, limit: str = ""):
        self.limit = limit
        super().__init__(message)


class BusyError(LimitError):
    """All places are taken now; a later try may succeed."""


class NotInstalledError(UserError):
    """A library that the light install lacks; the message says how to add it."""


class PublishError(UserError):
    """The Hub or Trackio refuses what is to be published; the message says what to do."""


class AssetError(RankVizError):
    """RankViz's own data is broken; the message names file, row, field and remedy."""


class HubUnavailableError(RankVizError):
    """The Hub cannot help now; a later try may succeed."""


class HubSilentError(HubUnavailableError):
    """No network, or no answer at all from the Hub, so nothing else is requested from it for a while."""


class StorageError(RankVizError):
    """The runs folder cannot be written; the message says why and what to do."""


class RunUnreadError(StorageError, OSError):
    """A run exists and cannot be read at the moment."""

    def __init__(self, run_id: str, why: str):
        super().__init__(f"Run {quoted(run_id)} cannot be read now ({why}). Try again later.")


class EngineError(RankVizError):
    """An engine refused a job, or the job's result is missing; the message says why and what to do."""


class EngineUnavailableError(RankVizError):
    """An engine cannot be reached or cannot start a job now; the message says why. RankViz asks the engine again
    later."""


class EngineDeclinedError(EngineUnavailableError):
    """An engine refuses a request for now and has done nothing of it; not raised where an answer was lost."""


class WorkerError(RankVizError):
    """A worker process failed; the message names its exit code."""
