"""The bands of assets/forecast.json, fitted to all lines: a row a kind of score, or in loss a size and kind of base."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from rankviz.core.forecast.bands import LOSS
from rankviz.core.forecast.curve import GRID, REFERENCE_RANK
from rankviz.core.forecast.lines import RankLine
from rankviz.worker.assets.forecast.draws import SEED, Curves, Parameters, curves, quantiles
from rankviz.worker.assets.forecast.families import LOSSES, SCORE_KINDS, SCORES, loss_description, score_description
from rankviz.worker.assets.forecast.fit import fit
from rankviz.worker.assets.forecast.model import data_of
from rankviz.worker.assets.forecast.rule import Rule, fitted_rule

SIZES = (1e8, 3e8, 1e9, 3e9, 1e10, 3e10, 1e11, 3e11, 1e12)
DIGITS = 4


def tabulated(lines: Sequence[RankLine]) -> dict:
    """The bands, and the median parameters of the curve."""
    rng = np.random.default_rng(SEED)
    scores = [line for line in lines if line.metric == "score"]
    losses = [line for line in lines if line.metric == "loss"]
    by_score, _ = fit(data_of(scores, SCORES.descriptions(scores)), rng)
    by_loss, _ = fit(data_of(losses, LOSSES.descriptions(losses)), rng)
    return {
        "reference_rank": REFERENCE_RANK,
        "bands": [*_score_bands(rng, by_score, scores), *_loss_bands(rng, by_loss, losses)],
        "parameters": {"score": _medians(by_score), "loss": _medians(by_loss)},
    }


def _score_bands(rng: np.random.Generator, fitted: Parameters, lines: Sequence[RankLine]) -> list[dict]:
    rows, every, rule = [], [], fitted_rule(lines)
    for kind in SCORE_KINDS:
        own = [line for line in lines if line.kind == kind]
        new = curves(rng, fitted, np.array(score_description(kind)), typical_error(own))
        every.append(new)
        rows.append(_row(rng, new, rule, own, metric="score", kind=kind, base=None, parameters=None))
    mixed = Curves(*(np.concatenate([getattr(each, field.name) for each in every]) for field in fields(Curves)))
    return [*rows, _row(rng, mixed, rule, lines, metric="score", kind="any", base=None, parameters=None)]


def _loss_bands(rng: np.random.Generator, fitted: Parameters, lines: Sequence[RankLine]) -> list[dict]:
    rule = fitted_rule(lines)
    return [
        _row(
            rng,
            curves(rng, fitted, np.array(loss_description(size, base)), typical_error(lines)),
            rule,
            lines,
            metric="loss",
            kind=LOSS,
            base=base,
            parameters=size,
        )
        for base in (False, True)
        for size in SIZES
    ]


def _row(rng: np.random.Generator, new: Curves, rule: Rule, lines: Sequence[RankLine], **names: object) -> dict:
    return {
        **names,
        "studies": len({line.publication for line in lines}),
        "lines": len(lines),
        "lines_at_rank": {str(r): sum(r in line.ranks for line in lines) for r in GRID},
        "noise": round(float(np.median(new.noise)), DIGITS),
        "quantiles": quantiles(rng, new, rule),
        "gain": [round(float(value), DIGITS) for value in np.percentile(new.gain, (10, 50, 90))],
    }


def typical_error(lines: Sequence[RankLine]) -> float:
    """Median standard error of the values whose test set is known, every publication weighing the same."""
    by_publication: dict[str, list[float]] = {}
    for line in lines:
        by_publication.setdefault(line.publication, []).extend(error for error in line.standard_errors if error)
    medians = [float(np.median(errors)) for errors in by_publication.values() if errors]
    return float(np.median(medians)) if medians else 0.0


def _medians(fitted: Parameters) -> dict[str, object]:
    """Most of them logarithms; draws.Parameters says what each is."""
    return {
        field.name: np.round(np.median(getattr(fitted, field.name), axis=0), 3).tolist() for field in fields(Parameters)
    }
