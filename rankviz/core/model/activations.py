"""What a decoder block holds while it trains, in bytes a token: figures that the worker read off transformers' classes.

worker/activations.py measures them for each model of the catalogue and for any other that it lays out.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationBytes:
    """Of one block without an adapter."""

    kept: int
    """What autograd saves for the backward pass, the block's own input left out."""
    gradients: int
    """What is alive beside it at the fullest moment of the backward pass."""
    own_input: int = 0
    """The block's input where it saves that too: a checkpoint holds it already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockActivations:
    """Of some blocks that hold the same."""

    blocks: tuple[int, ...]
    bf16: ActivationBytes
    fp32: ActivationBytes
    autocast: ActivationBytes | None = None
    """In bf16 under autocast, where that differs: layer norms and powers run in fp32 then."""

    def held(self, width: int, *, autocast: bool) -> ActivationBytes:
        """width: bytes of an activation."""
        if width == 4:
            return self.fp32
        return self.autocast if autocast and self.autocast else self.bf16
