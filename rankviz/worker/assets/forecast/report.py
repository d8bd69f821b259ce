"""The validation as text, for the terminal."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("publications", "points", "inside_50", "inside_80", "inside_80_by_publication", "crps")
BASELINES = ("crps_no_difference", "crps_rule", "crps_curve")


def printed(result: Mapping[str, Any]) -> str:
    """One line a kind."""
    names = (*COLUMNS, *BASELINES)
    head = f"{'kind':<12}" + "".join(f"{name.replace('inside_80_by_publication', 'by_publ.'):>20}" for name in names)
    rows = [f"{row['kind']:<12}" + "".join(f"{row[name]:>20}" for name in names) for row in result["left_out"]]
    if same := result["same_data_set"]:
        rows.append(f"One model family out, {same['kind']}: CRPS {same['crps']}, {same['inside_80']:.0%} inside 80 %.")
    return "\n".join([head, *rows])
