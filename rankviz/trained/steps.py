"""How long an adapter was trained, as far as a file beside it says: transformers' trainer_state.json."""

import json
from pathlib import Path

STATE = "trainer_state.json"
MAX_STATE_BYTES = 64 * 10**6
"""It holds the log of every step; a longer one is not read."""


def training_steps(folder: Path) -> int | None:
    """Optimizer steps that the Trainer counted when it wrote this folder; None where it left no count."""
    state = folder / STATE
    try:
        if state.stat().st_size > MAX_STATE_BYTES:
            return None
        steps = json.loads(state.read_text(encoding="utf-8")).get("global_step")
    except (OSError, ValueError, AttributeError):
        return None
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps >= 0 else None
