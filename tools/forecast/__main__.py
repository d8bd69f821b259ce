"""Tabulates the published forecast and validates it: `make forecast` writes assets/forecast.json.

    python -m tools.forecast [ASSETS_DIR] [--without STUDY ...]

Everything comes from the folder's evidence/. With --without, the result without these studies is printed and nothing is
written.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from docs.generate import forecast as tables
from rankviz.catalog.studies import FORECAST_FILE, load_evidence
from rankviz.core.forecast.bands import ANY, GRID, KINDS, LOSS, METRICS, REFERENCE_RANK, RankLine
from rankviz.core.studies.lines import Evidence
from rankviz.paths import ASSETS
from tools.forecast.counts import counts, read_learning_rates
from tools.forecast.lines import rank_lines
from tools.forecast.published import counted, left_out, mixture, rate_and_rank, summary
from tools.forecast.quick_look import quick_look_check
from tools.forecast.regret import regret_table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.forecast")
    parser.add_argument("assets", nargs="?", type=Path, default=ASSETS)
    parser.add_argument("--without", nargs="+", default=[], metavar="STUDY", help="print the result without these")
    args = parser.parse_args(arguments)
    began = time.monotonic()
    evidence = load_evidence(args.assets)
    studies = {line.study_id for line in rank_lines(evidence)}
    if unknown := sorted(set(args.without) - studies):
        parser.error(f"no line is of study {', '.join(unknown)}; the studies are {', '.join(sorted(studies))}.")
    for study in args.without:
        evidence = evidence.without(study)
    result = published(evidence)
    result |= {"advice": regret_table(evidence), "quick_look": quick_look_check(evidence)}
    result["counts"] = counts(evidence, read_learning_rates(args.assets))
    print(*(table(result) for table in (tables.bands, tables.holds, tables.regret, tables.section)), sep="\n\n")
    if args.without:
        return
    (args.assets / FORECAST_FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {FORECAST_FILE} in {time.monotonic() - began:.0f} s.")


def published(evidence: Evidence) -> dict:
    """The bands, how they held each publication that was left out, and what holds over published lines."""
    lines = rank_lines(evidence)
    by_metric = {metric: [line for line in lines if line.metric == metric] for metric in METRICS}
    points = {metric: list(left_out(own)) for metric, own in by_metric.items()}
    kinds = [kind for kind in KINDS if kind not in (ANY, LOSS)]
    of_kind = {kind: [point for point in points["score"] if point.kind == kind] for kind in kinds}
    return {
        "published": [asdict(line) for line in (*lines, *rank_lines(evidence, rl=True))],
        "reference_rank": REFERENCE_RANK,
        "bands": {metric: _band(own) for metric, own in by_metric.items() if own},
        "left_out": [
            summary(kind, own) for kind, own in {**of_kind, ANY: points["score"], LOSS: points[LOSS]}.items() if own
        ],
        "by_publication": [
            summary(name, [point for point in own if point.publication == name])
            for own in points.values()
            for name in sorted({point.publication for point in own})
        ],
        "holds": counted(lines),
        "rate": rate_and_rank(evidence),
    }


def _band(lines: Sequence[RankLine]) -> dict:
    return {
        "studies": len({line.publication for line in lines}),
        "lines": len(lines),
        "lines_at_rank": {str(r): sum(r in line.ranks for line in lines) for r in GRID},
        "quantiles": mixture(lines).quantiles(),
    }


if __name__ == "__main__":
    main()
