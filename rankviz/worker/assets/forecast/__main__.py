"""Fits the published lines, tabulates the forecast and validates it: `make forecast` writes assets/forecast.json.

    python -m rankviz.worker.assets.forecast [ASSETS_DIR]

Everything comes from the folder's evidence/, but for the check of bent bands, which needs its fidelity.json.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rankviz.catalog.forecast import FILE, lines_hash
from rankviz.catalog.studies import load_evidence
from rankviz.core.forecast.lines import RankLine, rank_lines
from rankviz.paths import ASSETS
from rankviz.worker.assets.forecast.report import printed
from rankviz.worker.assets.forecast.tables import tabulated
from rankviz.worker.assets.forecast.validation import bent_check, validated


def main(assets: Path = ASSETS) -> None:
    began = time.monotonic()
    lines = rank_lines(load_evidence(assets))
    result = made(assets, lines)
    (assets / FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(printed(result))
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
    }


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
