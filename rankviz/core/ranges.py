"""A figure that is not known exactly: low, expected, high."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """low ≤ expected ≤ high, in whatever unit the field that holds it names."""

    low: float
    expected: float
    high: float

    def __post_init__(self):
        if not self.low <= self.expected <= self.high:
            raise ValueError(f"a range must rise: {self.low}, {self.expected}, {self.high}")

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def times(self, factor: float) -> "Range":
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def multiplied(self, other: "Range") -> "Range":
        """End by end; for ranges above zero."""
        return Range(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def plus(self, other: "Range") -> "Range":
        """Both at their low end, both as expected, both at their high end."""
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def over(self, divisor: "Range") -> "Range":
        """Least by most, expected by expected, most by least."""
        return Range(self.low / divisor.high, self.expected / divisor.expected, self.high / divisor.low)

    def as_json(self) -> dict[str, float]:
        return {"low": self.low, "expected": self.expected, "high": self.high}
