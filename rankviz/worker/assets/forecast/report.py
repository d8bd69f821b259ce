"""The validation as text, for the terminal."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("publications", "points", "inside_50", "inside_80", "inside_80_by_publication", "crps")
BASELINES = ("crps_no_difference", "crps_rule", "crps_curve")


def printed(result: Mapping[str, Any]) -> str:
    """One line a kind, then the bent bands."""
    names = (*COLUMNS, *BASELINES)
    head = f"{'kind':<12}" + "".join(f"{name.replace('inside_80_by_publication', 'by_publ.'):>20}" for name in names)
    rows = [f"{row['kind']:<12}" + "".join(f"{row[name]:>20}" for name in names) for row in result["left_out"]]
    if same := result["same_data_set"]:
        rows.append(f"One model family out, {same['kind']}: CRPS {same['crps']}, {same['inside_80']:.0%} inside 80 %.")
    bent = result["bent"]
    own = (
        f"Two own runs: {bent['inside_80']:.0%} of {bent['runs']} runs inside the 80 % band, "
        f"{bent['setting_left_out']['inside_80']:.0%} with each setting left out; median and mean error "
        f"{bent['bent_median_error']} and {bent['bent_mean_error']} nats (straight line {bent['line_median_error']} "
        f"and {bent['line_mean_error']}, truncated {bent['truncated_median_error']} and "
        f"{bent['truncated_mean_error']})."
    )
    return "\n".join([head, *rows, own])
