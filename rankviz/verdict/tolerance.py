"""How small a difference must be to count as none: in nats, or as a share of what training gained over the base."""

import math

from rankviz.errors import InvalidSettingError


def tolerance_nats(tolerance: float | str, *, best_loss: float, base_loss: float | None) -> float:
    """0.02 or "0.02" is nats; "2%" is a share of the gain, base_loss - best_loss."""
    text = str(tolerance).strip()
    share = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InvalidSettingError(
            f"The tolerance must be in nats, such as 0.02, or a share of the gain, such as 2% (got {text!r})."
        )
    if not share:
        return value
    if base_loss is None:
        raise InvalidSettingError(
            "A tolerance as a share of the gain needs the loss of the base: give it, or give the tolerance in nats."
        )
    if not base_loss > best_loss:
        raise InvalidSettingError(
            f"No rank is better than the base ({base_loss:.4f} nats), so there is no gain: give the tolerance in nats."
        )
    return value / 100 * (base_loss - best_loss)
