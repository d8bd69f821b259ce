"""What is published where, and looks at what that leaves behind."""

import os
from contextlib import suppress
from pathlib import Path

from rankviz.publish import DATASET, Destination, Token
from rankviz.visitor import acting_as
from tests.support.engines.hub_stand_in import TOKEN
from tests.support.web.visitors import ANN

ALICES = Token(TOKEN)
SERVERS = "hf_theServersOwnToken0123456789"
PLACE = Destination(to=DATASET, name="alice/ranks")


def publish(api, name, to=DATASET, token=ALICES, visitor=ANN, **more):
    with acting_as(visitor):
        return api.runs.publish(name, Destination(to=to, name="alice/ranks", **more), token)


def everything_below(folder):
    """Without what goes while it is read, as a file that is written aside."""
    found = b""
    for place, _, names in os.walk(folder):  # which passes over folders that go
        for path in (Path(place) / name for name in names):
            with suppress(FileNotFoundError):
                found += path.read_bytes() if path.is_file() else b""
    return found


def processes() -> bytes:
    """Arguments and environments of our own processes."""
    found = b""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                found += Path(f"/proc/{pid}/{name}").read_bytes()
    return found
