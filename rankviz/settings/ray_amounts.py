"""What Ray can be asked for, so that a server that asks for something else does not start."""

from collections.abc import Mapping

OWN = ("object_store_memory", "bundle")
"""Resources that Ray keeps for itself."""
LEAST = 0.0001


def as_ray_takes(amounts: Mapping[str, float]) -> Mapping[str, float]:
    """The same, by Ray's names; memory is in bytes. ValueError says what Ray does not take."""
    if own := next((name for name in OWN if name in amounts), ""):
        raise ValueError(f"{own} is for Ray alone")
    gpus = amounts.get("GPU", 1.0)
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("more than one GPU must be a whole number of them")
    if any(amount < LEAST for amount in amounts.values()):
        raise ValueError(f"each must be at least {LEAST:.4f}")
    return amounts
