"""The validation of the measurements that RankViz ships, as `make validate` wrote it."""

import json
from functools import lru_cache
from pathlib import Path

from rankviz.core.accuracy.bands import widths
from rankviz.core.accuracy.report import AccuracyReport, from_json
from rankviz.core.cost.assumptions import Assumption
from rankviz.errors import AssetError

RESULT_FILE = "validation.json"


@lru_cache(maxsize=4)
def load_validation(assets: Path) -> AccuracyReport:
    """The result of `make validate`."""
    path = assets / RESULT_FILE
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; run make validate.") from None
    except json.JSONDecodeError as error:
        raise AssetError(f"{path.name}: not JSON ({error}); run make validate.") from None
    except (KeyError, TypeError) as error:
        raise AssetError(f"{path.name}: not a report of this version ({error}); run make validate.") from None


def measured_widths(report: AccuracyReport) -> tuple[Assumption, ...]:
    """Half-widths of bands as rows of assumptions: the report's result for each kind of setting."""
    return widths(report.evidence, report.made)
