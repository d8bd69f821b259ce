"""Every measured row predicted as if its source had never been seen.

A source is who measured with which program (`MeasuredRow.origin`); its tables share mistakes, and its rows taught some
constants and the widths of bands. So for each source the constants take the values that they would have without it
(`Assumption.without`), the widths are worked out from the other sources' errors, and only then its rows are predicted.
The formulas stay: they were read in code, though some of that reading began because a row did not fit, which
`basis.CHECKED_ON_ROWS` says wherever figures are quoted. Where a kind of setting was measured by this source alone,
the width of unmeasured kinds applies, as it would have. What the page says about accuracy is counted over these
predictions.
"""

from collections.abc import Callable, Sequence

from rankviz.core.accuracy.bands import evidence_of
from rankviz.core.accuracy.evidence import widths
from rankviz.core.accuracy.predicted import PredictedRow
from rankviz.core.accuracy.rows import MeasuredRow
from rankviz.core.cost.assumptions import Assumptions

Predict = Callable[[MeasuredRow, Assumptions], PredictedRow]


def left_out_predictions(
    rows: Sequence[MeasuredRow], predict: Predict, constants: Assumptions, made: str
) -> tuple[PredictedRow, ...]:
    """The rows in their order, each predicted without its own source.

    constants: without widths that come from measurements. made: the day, ISO.
    """
    by_origin = {origin: _unseen(origin, rows, predict, constants, made) for origin in {row.origin for row in rows}}
    return tuple(predict(row, by_origin[row.origin]) for row in rows)


def _unseen(
    origin: str, rows: Sequence[MeasuredRow], predict: Predict, constants: Assumptions, made: str
) -> Assumptions:
    """Constants and widths of someone who has not seen this source."""
    own = constants.without(origin)
    others = [predict(row, own) for row in rows if row.origin != origin]
    return own.with_rows(widths(evidence_of(others), made))
