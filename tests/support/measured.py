"""When and on how many processors something was measured, in its report and in docs/security.md."""

import os
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any


def measured() -> dict[str, Any]:
    """Of now and of this machine, for a row of a report."""
    return {"day": date.today().isoformat(), "processors": os.cpu_count()}


def when_and_where(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows' days and machines, as words."""
    days, processors = (sorted({row[name] for row in rows}) for name in ("day", "processors"))
    return f"On {' and '.join(days)}, with {' or '.join(map(str, processors))} processors."
