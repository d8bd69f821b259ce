"""Files that a visitor of a shared page has uploaded and that are still here, as nothing has taken them in yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.workspace import in_turn, writes
from rankviz.errors import InvalidSettingError
from rankviz.store.temp import Usage

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace


class Uploads:
    """Of whoever asks."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def usage(self) -> Usage:
        """None on a page of one's own, where an upload is a file like any other, nor of whom nobody can tell."""
        visitor = self._workspace.visitor
        is_known = self._workspace.shared and not visitor.is_nobody
        return self._workspace.temp.usage(visitor) if is_known else Usage(0, 0)

    @in_turn("changes")
    @writes
    def delete(self) -> Usage:
        """Delete them all; returns what is gone. Runs have copies of their data, and stay."""
        if not self._workspace.shared:
            hours = units.counted(self._workspace.settings.temp_hours, "hour")
            raise InvalidSettingError(
                f"This page is your own: uploads lie in {self._workspace.temp.page}, from where they are removed after "
                f"{hours}. Delete there what is to go sooner."
            )
        visitor, temp = self._workspace.rights.somebody(), self._workspace.temp
        before = temp.usage(visitor)
        for path in temp.uploads_of(visitor):
            temp.remove_upload(path, visitor)
        after = temp.usage(visitor)
        return Usage(before.files - after.files, before.size_bytes - after.size_bytes)
