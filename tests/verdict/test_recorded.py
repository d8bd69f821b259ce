"""The verdict on the sweeps that ship, against the same worked out from their journals alone with numpy and scipy."""

import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import studentized_range

from rankviz.api import Api
from rankviz.verdict import verdict_json

RUNS = Path(__file__).parents[2] / "assets" / "recorded" / "runs"


def journals():
    """{sweep: {(r, learning rate): {seed: losses by example}}}, of every line that says an adapter was evaluated."""
    losses = defaultdict(lambda: defaultdict(dict))
    for folder in sorted(RUNS.iterdir()):
        request = json.loads((folder / "request.json").read_text())
        for line in (folder / "events.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "Evaluated" and event["when"] == "after":
                r = request.get("lora", request)["r"]
                cell = losses[request["sweep_id"]][r, request["learning_rate"]]
                cell[request["seed"]] = np.array(event["example_losses"])
    return losses


SWEEPS = {name: cells for name, cells in journals().items() if min(map(len, cells.values())) >= 3}


@pytest.mark.parametrize("sweep_id", SWEEPS)
def test_the_verdict_agrees_with_an_independent_calculation(sweep_id, tmp_path):
    mean = {cell: np.mean([losses.mean() for losses in seeds.values()]) for cell, seeds in SWEEPS[sweep_id].items()}
    ranks = sorted({r for r, _ in mean})
    chosen = {r: min((cell for cell in mean if cell[0] == r), key=mean.get) for r in ranks}
    # rank × seed × example
    table = np.array([[SWEEPS[sweep_id][chosen[r]][seed] for seed in (0, 1, 2)] for r in ranks])
    k, n, m = table.shape
    runs = table.mean(axis=2)
    rest = runs - runs.mean(axis=1, keepdims=True) - runs.mean(axis=0, keepdims=True) + runs.mean()
    freedom = (k - 1) * (n - 1)
    between = (rest**2).sum() / freedom

    verdict = verdict_json(Api(home=tmp_path).verdicts.of_sweep(sweep_id))

    assert {r: rate for r, rate in chosen.values()} == {rank["r"]: rank["learning_rate"] for rank in verdict["ranks"]}
    assert ranks[int(np.argmin(runs.mean(axis=1)))] == verdict["best"]
    pairs = {(pair["r"], pair["s"]): pair for pair in verdict["pairs"]}
    for i, j in combinations(range(k), 2):
        differences = table[i] - table[j]
        centre = differences.mean()
        by_seed, by_example = differences.mean(axis=1) - centre, differences.mean(axis=0) - centre
        left = differences - centre - by_seed[:, None] - by_example[None, :]
        examples = max(0.0, (n * (by_example**2).sum() / (m - 1) - (left**2).sum() / ((n - 1) * (m - 1))) / (n * m))
        q_runs, q_examples = (studentized_range.ppf(0.95, k, df) / np.sqrt(2) for df in (freedom, m - 1))
        half = np.sqrt(q_runs**2 * 2 * between / n + q_examples**2 * examples)
        pair = pairs[ranks[i], ranks[j]]
        assert (centre - half, centre, centre + half) == pytest.approx(
            (pair["low"], pair["difference"], pair["high"]), rel=2e-3, abs=1e-6
        )
        different = abs(centre) > half
        assert different == (pair["call"] == "different") or abs(centre) + half < verdict["tolerance_nats"]
