"""The regret of the advice beside that of fixed ranks, over the published lines of `rank_lines`.

The regret of a line is the value of its best tested rank minus that of the advised rank: in points for scores, in % of
the loss for losses. Only lines from r = 16 or less to r = 64 or more count, and for a rank only those that reach it;
between two tested ranks the value is interpolated over log2(r). What a doubling gained is counted over lines that ran
both ranks. Lines of one publication are averaged, and publications weigh the same; intervals are 90 % bootstraps over
publications.

The advice is chosen anew for each publication, from the scores of the others: the smallest of 16, 32 and 64 whose
doubling gained less than CLEAR_GAIN points on that kind of task, and the default where fewer than ENOUGH_RAN
publications ran both ranks. The capacity rule takes the smallest power of two whose adapter holds the data
(core.advice.advice); its tokens and adapter sizes are estimates.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from rankviz.core.advice.advice import ENOUGH_RAN
from rankviz.core.advice.use_case import RECOMMENDED_RANK, USE_CASES
from rankviz.core.forecast.bands import RankLine
from rankviz.core.studies.lines import Evidence
from tools.forecast.lines import rank_lines
from tools.forecast.published import grouped

FIXED_RANKS = (4, 8, 16, 32, 64, 128)
CHOICES = (16, 32, 64)
CLEAR_GAIN = 0.25
"""Points. Less than this is not worth twice the file."""
LARGE_REGRET = 1.0
BOOTSTRAPS = 4000
TOKENS_PER_EXAMPLE = 250
"""Assumed by the capacity rule where a study gives examples only."""
STATED_TOKENS = re.compile(r"([\d.]+) ?([BM]) tokens")
PER_RANK, OF_SIZE, EXPONENT = 0.7e6, 1.24e9, 0.7
"""Adapter parameters per unit of rank on all linear layers: 0.7 M for Llama-3.2-1B, growing with size to the power 0.7;
within a factor of 1.5 for dense models from 0.5B to 70B."""
TOKENS_PER_PARAMETER = 2
"""2 bits per parameter, 1 bit per token (assumptions.json)."""
Rule = Callable[[RankLine], float | None]


def regret_table(evidence: Evidence) -> dict:
    """Section "advice" of assets/forecast.json: the regret of each rule, how often the left-out advice chose each
    rank, and what doubling each rank gained."""
    kinds = {study_id: study.task_kind for study_id, study in evidence.studies.items()}
    advised = {kind for case in USE_CASES for kind in case.task_kinds if case.r_range is None}
    lines = [line for line in rank_lines(evidence) if kinds[line.study_id] in advised]
    scores = grouped((kinds[line.study_id], line) for line in lines if line.metric == "score")
    pairs = {(line.publication, kinds[line.study_id]) for line in lines}
    chosen = {
        (name, kind): chosen_rank([line for line in scores.get(kind, ()) if line.publication != name])
        for name, kind in pairs
    }
    every = {"all": [line for line in lines if line.metric == "score"], **dict(sorted(scores.items()))}
    tokens = _tokens(evidence)
    rules: dict[str, Rule] = {
        "advice": lambda line: chosen[line.publication, kinds[line.study_id]],
        **{str(r): lambda line, r=r: r for r in FIXED_RANKS},
        "capacity": lambda line: capacity_rank(tokens.get(line.study_id), line.parameters),
    }
    wide = [line for line in lines if reaches(line, CHOICES[0]) and reaches(line, CHOICES[-1])]
    measured = [{"rule": name, **_measured(wide, rule, rules["advice"])} for name, rule in rules.items()]
    return {
        "alternatives": [row for row in measured if "score" in row and "loss" in row],
        "chosen": {
            kind: {str(r): n for r, n in sorted(Counter(chosen[pair] for pair in pairs if pair[1] == kind).items())}
            for kind in sorted({kind for _, kind in pairs})
        },
        "gains": {
            kind: {str(r): gained for r in FIXED_RANKS if (gained := doubling(of_kind, r))}
            for kind, of_kind in every.items()
        },
    }


def value_at(line: RankLine, r: float) -> float:
    """At a rank that the line reaches, between tested ranks over log2(r)."""
    return float(np.interp(math.log2(r), np.log2(line.ranks), line.values))


def reaches(line: RankLine, r: float) -> bool:
    return line.ranks[0] <= r <= line.ranks[-1]


def chosen_rank(scores: Sequence[RankLine]) -> int:
    """The smallest of CHOICES whose doubling gains less than CLEAR_GAIN; the default where too few publications ran
    both ranks."""
    for r in CHOICES[:-1]:
        gained = doubling(scores, r)
        if gained is None or gained["publications"] < ENOUGH_RAN:
            return RECOMMENDED_RANK
        if gained["mean"] < CLEAR_GAIN:
            return r
    return CHOICES[-1]


def capacity_rank(tokens: float | None, parameters: int | None) -> int | None:
    """The smallest power of two from 1 to 256 whose adapter holds the tokens, 256 where none does; None where the data
    or the model's size are not known."""
    if tokens is None or parameters is None:
        return None
    holds = TOKENS_PER_PARAMETER * PER_RANK * (parameters / OF_SIZE) ** EXPONENT
    return next((2**n for n in range(9) if holds * 2**n >= tokens), 256)


def _tokens(evidence: Evidence) -> dict[str, float]:
    """Tokens that each study trained on, where it gives them or its examples; of several lengths the first."""
    tokens: dict[str, float] = {}
    for line in evidence.published:
        study = line.study
        if stated := STATED_TOKENS.search(line.first.duration):
            tokens.setdefault(study.study_id, float(stated[1]) * {"B": 1e9, "M": 1e6}[stated[2]])
        elif study.examples is not None:
            tokens.setdefault(study.study_id, study.examples * TOKENS_PER_EXAMPLE)
    return tokens


def doubling(lines: Sequence[RankLine], r: int) -> dict | None:
    """What twice the rank gained, in points, in the lines that ran both; None where none did."""
    ran = [line for line in lines if r in line.ranks and 2 * r in line.ranks]
    return _interval(ran, [value_at(line, 2 * r) - value_at(line, r) for line in ran]) if ran else None


def _measured(lines: Sequence[RankLine], rule: Rule, advice: Rule) -> dict:
    """The fields of core.advice.advice.Alternative, and the same of losses, over lines that reach the rule's rank."""
    measured = {}
    for metric, prefix in (("score", ""), ("loss", "loss_")):
        of_metric = [(line, rule(line)) for line in lines if line.metric == metric]
        known = [(line, r) for line, r in of_metric if r is not None and reaches(line, r)]
        of = [line for line, _ in known]
        if not of:
            continue
        regrets = [max(line.values) - value_at(line, r) for line, r in known]
        over = np.mean(_by_publication(of, [regret > LARGE_REGRET for regret in regrets]))
        more = _interval(of, [value_at(line, advice(line)) - value_at(line, r) for line, r in known])
        measured |= {
            metric: _interval(of, regrets),
            f"{prefix}more": [more[name] for name in ("mean", "low", "high")],
            f"{prefix}over_one_point": round(float(over), 3),
            f"{prefix}mean_rank": round(2 ** float(np.mean(_by_publication(of, [math.log2(r) for _, r in known]))), 1),
        }
    return measured


def _interval(lines: Sequence[RankLine], values: Iterable[float]) -> dict:
    """Mean, 5 % and 95 % over publications, with their numbers: the fields of core.advice.advice.Mean."""
    each = np.array(_by_publication(lines, values))
    drawn = np.random.default_rng(0).integers(0, len(each), (BOOTSTRAPS, len(each)))
    low, high = np.quantile(each[drawn].mean(axis=1), (0.05, 0.95))
    figures = zip(("mean", "low", "high"), (each.mean(), low, high), strict=True)
    return {**{name: round(float(x), 3) for name, x in figures}, "publications": len(each), "lines": len(lines)}


def _by_publication(lines: Sequence[RankLine], values: Iterable[float]) -> list[float]:
    groups = grouped((line.publication, float(value)) for line, value in zip(lines, values, strict=True))
    return [float(np.mean(group)) for group in groups.values()]
