"""The validation of the measurements that RankViz ships, as `make validate` wrote it.

An estimate needs what its ranges rest on and none of the rows, whose types are imported with the whole report.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rankviz.core.accuracy.evidence import AccuracyByKind, evidence_from_json
from rankviz.errors import AssetError

if TYPE_CHECKING:
    from rankviz.core.accuracy.report import AccuracyReport

RESULT_FILE = "validation.json"
TRUTH_FILE = "truth.json"
"""Results of `make truth`: simulated training steps beside estimates and measured rows."""
_MADE_BY = {RESULT_FILE: "make validate", TRUTH_FILE: "make truth"}
Part = TypeVar("Part")


class RangeEvidence(NamedTuple):
    """What ranges rest on."""

    by_kind: AccuracyByKind
    made: str
    """Day, ISO."""


@lru_cache(maxsize=4)
def load_range_evidence(assets: Path) -> RangeEvidence:
    """What the ranges of estimates rest on."""
    return _read(assets, lambda value: RangeEvidence(evidence_from_json(value["evidence"]), value["made"]))


@lru_cache(maxsize=4)
def load_validation(assets: Path) -> "AccuracyReport":
    """The whole result of `make validate`."""
    from rankviz.core.accuracy.report import from_json

    return _read(assets, from_json)


@lru_cache(maxsize=4)
def load_truth(assets: Path) -> Mapping[str, float]:
    """mean_error and worst_error of simulated peaks, as shares of measured ones."""
    return _read(assets, lambda value: {name: value[name] for name in ("mean_error", "worst_error")}, TRUTH_FILE)


def _read(assets: Path, part: Callable[[Mapping[str, Any]], Part], file: str = RESULT_FILE) -> Part:
    path = assets / file
    try:
        return part(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; run {_MADE_BY[file]}.") from None
    except json.JSONDecodeError as error:
        raise AssetError(f"{path.name}: not JSON ({error}); run {_MADE_BY[file]}.") from None
    except (KeyError, TypeError) as error:
        raise AssetError(f"{path.name}: not a report of this version ({error}); run {_MADE_BY[file]}.") from None
