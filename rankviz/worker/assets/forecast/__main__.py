"""Fits the published lines, tabulates the forecast and validates it: `make forecast` writes assets/forecast.json.

    python -m rankviz.worker.assets.forecast [ASSETS_DIR] [--without STUDY ...]

Everything comes from the folder's evidence/, but for the check of bent bands, which needs its fidelity.json. With
--without, the validation without these studies is printed and nothing is written.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from rankviz.catalog.forecast import FILE, lines_hash
from rankviz.catalog.studies import load_evidence
from rankviz.core.forecast.lines import RankLine, rank_lines
from rankviz.paths import ASSETS
from rankviz.worker.assets.forecast.regret import regret_table
from rankviz.worker.assets.forecast.report import printed
from rankviz.worker.assets.forecast.tables import tabulated
from rankviz.worker.assets.forecast.validation import bent_check, validated


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m rankviz.worker.assets.forecast")
    parser.add_argument("assets", nargs="?", type=Path, default=ASSETS)
    parser.add_argument("--without", nargs="+", default=[], metavar="STUDY", help="print the validation without these")
    args = parser.parse_args(arguments)
    began = time.monotonic()
    lines = rank_lines(load_evidence(args.assets))
    studies = {line.study_id for line in lines}
    if unknown := sorted(set(args.without) - studies):
        parser.error(f"no line is of study {', '.join(unknown)}; the studies are {', '.join(sorted(studies))}.")
    result = made(args.assets, [line for line in lines if line.study_id not in args.without])
    print(printed(result))
    if args.without:
        return
    (args.assets / FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {FILE} in {time.monotonic() - began:.0f} s.")


def made(assets: Path, lines: Sequence[RankLine]) -> dict:
    """What assets/forecast.json holds."""
    tables = tabulated(lines)
    gain = next(row["gain"][1] for row in tables["bands"] if row["metric"] == "loss" and row["base"] is False)
    return {
        "lines": lines_hash(lines),
        **tables,
        **validated(lines),
        "bent": bent_check(assets, gain),
        "advice": regret_table(load_evidence(assets)),
    }


if __name__ == "__main__":
    main()
