"""The batch script of a job: it runs the worker and writes down its exit code."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rankviz.engines.slurm.papers import EXIT_CODE

PASSED = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "XDG_CACHE_HOME")
"""Of the page's variables, those that the worker gets too: where bases are. No token is among them, since Slurm keeps
scripts and environments where operators read them. The Hub's client finds that of `hf auth login` in the home
folder."""
TEMPLATE = """#!/bin/sh
cd {folder} || exit 1
trap : TERM
{exports}
{command} < /dev/null
code=$?
echo $code > {exit_code}
exit $code
"""
"""With a trap the shell outlives a SIGTERM, which ends the worker, and writes how that ended."""


def batch_script(folder: Path, command: Sequence[str], variables: Mapping[str, str]) -> str:
    """The text of a script that runs a command in a job's folder."""
    return TEMPLATE.format(
        folder=shlex.quote(str(folder)),
        exports="\n".join(f"export {name}={shlex.quote(text)}" for name, text in variables.items()),
        command=shlex.join(command),
        exit_code=EXIT_CODE,
    )


def passed() -> Mapping[str, str]:
    """The page's variables that a worker gets too."""
    return {name: os.environ[name] for name in PASSED if name in os.environ}
