"""Options of sbatch that the owner of a server may set, and the command that starts Python on the nodes."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rankviz.engines.engine import Nodes
from rankviz.errors import InvalidSettingError, quoted

_NAMES = """account begin constraint cores-per-socket cpus-per-gpu cpus-per-task deadline exclude exclusive gpu-freq
gpus gpus-per-node gres hint licenses mail-type mail-user mem mem-per-cpu mem-per-gpu nice nodelist prefer qos
reservation time time-min tmp wckey"""
ALLOWED = frozenset(_NAMES.split())
"""What a job gets and when it may start; not what it runs, how it is named and where its output goes, by which the
engine finds it. Whole names only: sbatch takes abbreviations too."""
QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
"""Of a command line: it may be for a shell that it starts, as in bash -c 'exec python "$@"' bash."""
SHELLS = frozenset(["bash", "dash", "fish", "ksh", "sh", "zsh"])
SHELL_OPTION = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
GPU = re.compile(r"--(?:gres=(?:.*,)?gpu|gpus(?:-per-node)?)(?:[:=](?P<model>[A-Za-z]\w*))?(?:[:=]\d+)?(?:,.*)?")


def nodes_of(options: Sequence[str]) -> Nodes:
    """What a job has on its node, as far as the options ask for it."""
    gpus = [match for option in options if (match := GPU.fullmatch(option))]
    return Nodes(gpus=[match["model"].upper() for match in gpus if match["model"]], has_gpu=bool(gpus))


def check_options(options: Sequence[str]) -> Sequence[str]:
    """The same options. InvalidSettingError names the first that cannot be set."""
    for option in options:
        name = option.removeprefix("--").partition("=")[0]
        if not option.startswith("--") or name not in ALLOWED:
            raise InvalidSettingError(
                f"RANKVIZ_SLURM_OPTIONS cannot have {quoted(option)}. Write each option as --name=value, with one of "
                f"these names: {', '.join(sorted(ALLOWED))}."
            )
    return tuple(options)


def python_command(text: str) -> Sequence[str]:
    """The words of a command line; ~ before the first is the home folder. InvalidSettingError where its quotes do not
    close, or it names a variable that no shell will read: one that is not quoted, or before the -c of a shell."""
    try:
        words = shlex.split(text)
        if "$" in "".join([QUOTED.sub("", text), *_not_for_a_shell(words)]):
            raise ValueError("variables are not filled in, so write the path itself")
    except ValueError as error:
        raise InvalidSettingError(f"RANKVIZ_SLURM_PYTHON cannot be {quoted(text)}: {error}.") from None
    return [os.path.expanduser(word) for word in words[:1]] + words[1:]


def _not_for_a_shell(words: Sequence[str]) -> Iterator[str]:
    """Those before the -c of a shell."""
    is_in_shell = False
    for word in words:
        if is_in_shell and SHELL_OPTION.fullmatch(word):
            return
        is_in_shell = is_in_shell or Path(word).name in SHELLS
        yield word
