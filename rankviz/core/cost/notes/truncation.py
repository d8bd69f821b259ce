"""Says that examples are longer than the maximum length, in the same words for an estimate and for what is exported."""

from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.note import Caution


def truncation(setup: TrainingSetup) -> Caution | None:
    """None where no example is known to be longer."""
    data, limit = setup.data, setup.max_length
    if data is None or not data.truncates(limit):
        return None
    has = "may have up to" if data.longest_is_upper else "has"
    return Caution(
        f"Examples above the maximum length of {limit:,} tokens are truncated: the longest {has} "
        f"{data.longest_tokens:,}. To learn them whole, raise the maximum length, which needs more memory, or split "
        "them."
    )
