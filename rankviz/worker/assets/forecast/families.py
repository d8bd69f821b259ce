"""The two families of lines, scores and losses: how a line is described to the fit, and what is left out at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rankviz.core.forecast.lines import RankLine

SCORE_KINDS = ("simple", "instruct", "math-code", "shift")
TYPICAL_PARAMETERS = 32e9
"""Where the effect of size is counted from."""


@dataclass(frozen=True)
class Family:
    """Lines of one metric."""

    metric: str
    describe: Callable[[RankLine], list[float]]
    """The columns of a line's description."""

    def descriptions(self, lines: Sequence[RankLine]) -> np.ndarray:
        return np.array([self.describe(line) for line in lines])


def score_description(kind: str) -> list[float]:
    """A constant, and one column a kind; of a kind that is not known, the constant only."""
    return [1.0, *(float(kind == each) for each in SCORE_KINDS)]


def loss_description(parameters: float | None, base: bool) -> list[float]:
    """A constant, the size of the base model, and whether it is untuned. An unknown size is a typical one."""
    return [1.0, float(np.log((parameters or TYPICAL_PARAMETERS) / TYPICAL_PARAMETERS)), float(base)]


SCORES = Family("score", lambda line: score_description(line.kind))
LOSSES = Family("loss", lambda line: loss_description(line.parameters, line.base))
WITHOUT_KIND = Family("score", lambda line: [1.0])
"""What the kinds add is measured against this."""
