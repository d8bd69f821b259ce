"""How many tokens a run reads: of the rows of its data and of their answers, from their lengths in characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankviz.errors import RankVizError

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.quantity import Range
    from rankviz.core.runs.request import RunRequest
    from rankviz.dataset import Preview


class DataTokens:
    """Tokens of the data of runs."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def of_rows(self, request: RunRequest) -> Range | None:
        """Of a row after padding; None where the data has gone since."""
        from rankviz.core.runs.estimate import row_tokens

        try:
            preview = self._preview(request.data)
        except RankVizError:
            return None
        return row_tokens(preview.mean_characters, preview.longest_characters, self._workspace.assumptions)

    def of_answers(self, request: RunRequest) -> Range | None:
        """Of a reference answer; None where the data cannot be read. BadDataError where no row has a prompt."""
        from rankviz.core.runs.estimate import row_tokens

        try:
            preview = self._preview(request.data)
        except RankVizError:
            return None
        preview.require_prompts()
        assume = self._workspace.assumptions
        return row_tokens(preview.mean_answer_characters, preview.longest_answer_characters, assume)

    def _preview(self, data: str) -> Preview:
        return self._workspace.data_files.look(self._workspace.references.data(data).text).preview
