"""What the cookies of a shared page's visitors are signed by, kept in the runs folder."""

import secrets
from pathlib import Path

from filelock import FileLock

from rankviz.settings import MIN_SECRET
from rankviz.store.durable import replace_durably

KEY_FILE = "cookie.key"


class CookieKey:
    """Made once. While it is not on the disk, the next start would make another, and nobody would be who they were.

    Args:
        home: The runs folder.
        given: A key that is kept elsewhere.
    """

    def __init__(self, home: Path, given: str = ""):
        self._file = Path(home) / KEY_FILE
        self._given = given
        self.keys = [given or secrets.token_hex(32)]
        """Whatever one of them has signed is believed, and the last one signs: another app may have been the first to
        write one."""
        self.is_kept()

    def is_kept(self) -> bool:
        """Whether it will be there at the next start. It is written where it is not there yet, or not any more."""
        if self._given:
            return True
        try:
            kept = self._read() or self._write()
        except OSError:
            return False
        if kept != self.keys[-1]:
            self.keys.append(kept)
        return True

    def _read(self) -> str:
        """Empty where there is none, or none that can be a key: a file that was not written whole."""
        try:
            text = self._file.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, UnicodeError):
            return ""
        return text if len(text) >= MIN_SECRET else ""

    def _write(self) -> str:
        """Ours, unless another app was first."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._file.with_name(f".{KEY_FILE}.lock"), thread_local=False):
            if kept := self._read():
                return kept
            replace_durably(self._file, self.keys[-1], mode=0o600)
        return self.keys[-1]
