"""The peak of a training step as an estimate has it: bytes by component, and a range for each total."""

from dataclasses import dataclass, replace

from rankviz.core.quantity import Range

BANDS = ("allocated_band", "reserved_band", "device_band")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak. The seven components add up to `allocated`."""

    base_weights: int
    adapter: int
    """Adapter weights, and full copies of modules_to_save."""
    gradients: int
    optimizer: int
    activations: int
    """Checkpoints, the working set of one block (of all without checkpointing), the adapter's intermediates."""
    logits: int
    """0 when the peak is in a block's backward pass, where no logits are held."""
    other: int
    """Scratch: one de-quantized weight, DoRA's norms, merged experts, or the optimizer's temporaries."""
    allocated_band: Range
    reserved_band: Range
    device_band: Range
    loading_band: Range | None = None
    """What nvidia-smi would show at the fullest moment of loading the base; None where that was not asked."""

    def reaching(self, other: "MemoryEstimate") -> "MemoryEstimate":
        """The same, with high ends no lower than the other's."""
        return replace(self, **{name: getattr(self, name).reaching(getattr(other, name).high) for name in BANDS})

    def covering(self, other: "MemoryEstimate") -> "MemoryEstimate":
        """The same, with the other's bands inside its own."""
        lower = {name: getattr(self, name).including(getattr(other, name).low) for name in BANDS}
        return replace(self, **lower).reaching(other)

    @property
    def allocated(self) -> int:
        """What torch.cuda.max_memory_allocated would say: the sum of the components."""
        return (
            self.base_weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
            + self.logits
            + self.other
        )

    @property
    def static(self) -> int:
        """Known from shapes: base, adapter, gradients, optimizer states."""
        return self.base_weights + self.adapter + self.gradients + self.optimizer

    @property
    def working(self) -> int:
        """What a step takes beside it: activations, logits, scratch."""
        return self.activations + self.logits + self.other

    @property
    def reserved(self) -> int:
        """What torch.cuda.max_memory_reserved would say."""
        return round(self.reserved_band.expected)

    @property
    def device(self) -> int:
        """What nvidia-smi would show: the figure to compare with a card."""
        return round(self.device_band.expected)

    @property
    def while_loading(self) -> int:
        """What nvidia-smi would show at the fullest moment of loading the base."""
        return round(self.loading_band.expected) if self.loading_band else 0

    @property
    def fullest_band(self) -> Range:
        """What a card must hold: the peak of training, or of loading where that is higher."""
        return self.device_band.reached_by(self.loading_band or self.device_band)

    @property
    def fullest(self) -> int:
        """Expected bytes at the fullest moment of loading and training."""
        return round(self.fullest_band.expected)

    @property
    def fuller_while_loading(self) -> bool:
        """Whether loading the base takes more than training."""
        return self.while_loading > self.device

    @property
    def low(self) -> int:
        """Low end around `device`: what must be allocated and a small context, all slack given back."""
        return round(self.device_band.low)

    @property
    def high(self) -> int:
        """High end around `device`."""
        return round(self.device_band.high)
