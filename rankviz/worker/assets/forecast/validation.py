"""The left-out validation as assets/forecast.json keeps it: by kind, by publication, and against other methods."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rankviz.core.forecast.bands import LOSS
from rankviz.core.forecast.lines import RankLine
from rankviz.worker.assets.forecast.draws import SEED
from rankviz.worker.assets.forecast.families import LOSSES, SCORE_KINDS, SCORES, WITHOUT_KIND
from rankviz.worker.assets.forecast.left_out import left_out
from rankviz.worker.assets.forecast.scoring import Scored, summary

OWN_DATA_SET = "tinker_sft_sweep"
"""The study of many models on one data set: there a model family can be left out with its data set known."""


def validated(lines: Sequence[RankLine]) -> dict:
    """Each publication forecast from the others."""
    scores = [line for line in lines if line.metric == "score"]
    losses = [line for line in lines if line.metric == "loss"]
    by_score = list(left_out(SCORES, scores, SEED))
    by_loss = list(left_out(LOSSES, losses, SEED))
    kinds = [summary(kind, [point for point in by_score if point.kind == kind]) for kind in SCORE_KINDS]
    return {
        "left_out": [*kinds, summary("any", by_score), summary(LOSS, by_loss)],
        "by_publication": [*_by_publication(by_score), *_by_publication(by_loss)],
        "without_kind": summary("any", list(left_out(WITHOUT_KIND, scores, SEED))),
        "same_data_set": _same_data_set(losses),
    }


def _by_publication(points: Sequence[Scored]) -> list[dict]:
    names = sorted({point.publication for point in points})
    return [summary(name, [point for point in points if point.publication == name]) for name in names]


def _same_data_set(losses: Sequence[RankLine]) -> dict | None:
    """Model families left out of the one data set that many models were trained on: nothing is said of others."""
    own = [replace(line, group=line.base_model) for line in losses if line.study_id == OWN_DATA_SET]
    family: Callable[[RankLine], str] = lambda line: line.base_model.split("/")[-1].split("-")[0]  # noqa: E731
    if len({family(line) for line in own}) < 2:
        return None
    return summary(OWN_DATA_SET, list(left_out(LOSSES, own, SEED, family)))
