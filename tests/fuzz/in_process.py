"""What the worker reads and writes, in the process of the case instead of one of its own: a hundred times as many cases
in the same time, and an error of the worker's is a traceback here and not a child that has died."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankviz.api import Workspace
from rankviz.children import REQUEST, Children, ChildResult, answer
from rankviz.errors import RankVizError
from rankviz.worker.__main__ import main

OPERATIONS = ("export", "import", "resize", "results")
"""The others import torch, or ask the Hub."""


class InProcess(Children):
    """Of a workspace whose children it replaces."""

    @classmethod
    def of(cls, workspace: Workspace) -> None:
        """Let this workspace have no processes for what can be done without."""
        replaced = workspace.children
        workspace.children = cls(replaced.bounds, folder=replaced.folder, line=replaced.line)

    def ask(
        self, operation: str, request: Mapping[str, Any], *, about: str, error: type[RankVizError], **given: str
    ) -> Any:
        if operation not in OPERATIONS:
            return super().ask(operation, request, about=about, error=error, **given)
        with self.folder() as folder:
            (Path(folder) / REQUEST).write_text(json.dumps(request), encoding="utf-8")
            code, output = _printed([operation, str(folder)])
        return answer(ChildResult(code, output, "", ""), about=about, error=error)


def _printed(argv: list[str]) -> tuple[int, bytes]:
    """The worker's exit code and what it prints: it writes to the file descriptor, not to sys.stdout."""
    before = os.dup(1)
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 1)
            code = main(argv)
        finally:
            os.dup2(before, 1)
            os.close(before)
        file.seek(0)
        return code, file.read()
