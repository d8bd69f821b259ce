"""The batch script of a job: it runs the worker and writes down its exit code."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rankviz.core.runs.events import MODELS_VARIABLE
from rankviz.engines.slurm.papers import EXIT_CODE

PASSED = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "XDG_CACHE_HOME")
"""Of the page's variables, those that the worker gets too: where bases are. No token is among them, since Slurm keeps
scripts and environments where operators read them. The Hub's client finds that of `hf auth login` in the home
folder."""
TEMPLATE = """#!/bin/sh
cd {folder} || exit 1
trap : TERM
{exports}
{models}
{command} < /dev/null
code=$?
printf '%-3d\\n' $code 1<> {exit_code}
exit $code
"""
"""With a trap the shell outlives a SIGTERM, which ends the worker, and writes how that ended, where papers.keep_room
has kept room."""


MODELS = """export {name}={shared}
ls -d {shared}/*/ > /dev/null 2>&1 || {name}={of_nodes}/$(uname -n)"""
"""Where the embedded base is: in the runs folder, if it is there, or else in a folder of each node, which fetches it
once: on some network disks, machines do not see each other's locks."""


def batch_script(folder: Path, command: Sequence[str], variables: Mapping[str, str], models: Path) -> str:
    """The text of a script that runs a command in a job's folder. models: of the runs folder."""
    of_nodes = folder.parent / "models"
    return TEMPLATE.format(
        models=MODELS.format(
            name=MODELS_VARIABLE, shared=shlex.quote(str(models)), of_nodes=shlex.quote(str(of_nodes))
        ),
        folder=shlex.quote(str(folder)),
        exports="\n".join(f"export {name}={shlex.quote(text)}" for name, text in variables.items()),
        command=shlex.join(command),
        exit_code=EXIT_CODE,
    )


def passed() -> Mapping[str, str]:
    """The page's variables that a worker gets too."""
    return {name: os.environ[name] for name in PASSED if name in os.environ}
