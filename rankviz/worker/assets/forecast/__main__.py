"""Fits the published lines, tabulates the forecast and validates it: `make forecast` writes assets/forecast.json.

    python -m rankviz.worker.assets.forecast [ASSETS_DIR] [--without STUDY ...]

Everything comes from the folder's evidence/. With --without, the validation without these studies is printed and
nothing is written.
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
from rankviz.worker.assets.forecast import quick_look
from rankviz.worker.assets.forecast.report import printed
from rankviz.worker.assets.forecast.tables import tabulated
from rankviz.worker.assets.forecast.validation import validated


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m rankviz.worker.assets.forecast")
    parser.add_argument("assets", nargs="?", type=Path, default=ASSETS)
    parser.add_argument("--without", nargs="+", default=[], metavar="STUDY", help="print the validation without these")
    args = parser.parse_args(arguments)
    began = time.monotonic()
    evidence = load_evidence(args.assets)
    lines = rank_lines(evidence)
    studies = {line.study_id for line in lines}
    if unknown := sorted(set(args.without) - studies):
        parser.error(f"no line is of study {', '.join(unknown)}; the studies are {', '.join(sorted(studies))}.")
    result = made([line for line in lines if line.study_id not in args.without])
    print(printed(result))
    if args.without:
        return
    result["quick_look"] = quick_look.quick_look_check(args.assets, evidence)
    print(quick_look.printed(result["quick_look"]))
    (args.assets / FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {FILE} in {time.monotonic() - began:.0f} s.")


def made(lines: Sequence[RankLine]) -> dict:
    """What assets/forecast.json holds of the published forecast."""
    return {"lines": lines_hash(lines), **tabulated(lines), **validated(lines)}


if __name__ == "__main__":
    main()
