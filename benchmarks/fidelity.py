"""`make fidelity`: fast curves beside independent runs, real ones, and assets/fidelity.json with what came of it.

One to two hours on two quiet cores. What has run stays in build/fidelity, so that it goes on where it stopped. Name
cases to run only those (`python -m benchmarks.fidelity small-0`): the others stand as they were published. Each base
has a runs folder of its own, so that two can go side by side.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rankviz.core.runs.fast_curve import FastCurve, fast_curve, pick  # noqa: E402
from rankviz.core.runs.metric import TOLERANCE_NATS  # noqa: E402
from rankviz.core.runs.record import RunRecord  # noqa: E402

HOME = ROOT / "build" / "fidelity"
RANKS = (2, 4, 8, 16, 64)
SPELLING_RANKS = (2, 4, 8, 16, 32)
"""Of the small base, whose hidden size is 192."""


class Case(NamedTuple):
    """One curve beside independent runs."""

    name: str
    made: str
    """Day of the runs, ISO."""
    base: str
    data: str
    alpha: str
    """"fixed" or "r"."""
    steps: int
    seed: int
    learning_rate: float
    """Learning rate of the run that was cut."""
    precision: str
    """In which the base was held."""
    differences: Mapping[int, float]
    """By rank: the cut's loss minus the independent run's, nats."""
    independent: Mapping[int, float]
    """By rank: the loss of the independent run, the trained one among them."""
    picked: int
    regret: float
    """Loss of the independent run at the rank that the curve picks, minus the lowest of all, nats."""
    regret_of_cut: float
    """Loss of the cut itself at that rank minus the lowest of all, nats: of training high and shipping the cut."""
    regret_of_highest: float
    """Regret of always taking the highest rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """Distance of fast curves from independent runs, as `make fidelity` measured it, in nats. Medians are of absolute
    differences; cases, settings and ranks are JSON objects."""

    made: str | None
    tolerance_nats: float
    cases: tuple[Mapping[str, Any], ...]
    median_absolute_difference: Mapping[str, float | None]
    independent_runs_apart: Mapping[str, float | None]
    settings: tuple[Mapping[str, Any], ...]
    by_rank: Mapping[str, Mapping[str, Any]]
    regret_within_tolerance: int
    cut_within_tolerance: int
    highest_within_tolerance: int
    largest_regret: float


class Curve(NamedTuple):
    """A case: every rank runs by itself, and the highest is truncated to the others."""

    base: str
    data: str
    steps: int
    seed: int
    alpha: str = "32"
    learning_rates: tuple[float, ...] = (1e-3,)
    """Several: each rank stands at its own best."""
    ranks: tuple[int, ...] = RANKS
    batch: int = 8
    held_out: int = 256


def small(seed: int, **more) -> Curve:
    """At 2e-3, and at a quarter of it, where 1500 steps are too few: r = 8 gets to 1.3 nats and to 2.1."""
    settings = {"learning_rates": (2e-3,), "ranks": SPELLING_RANKS, "batch": 16, "held_out": 512, **more}
    return Curve("small", "spelling", 1500, seed, **settings)


CASES = {
    "phonemes-0": Curve("embedded", "phonemes", 80, 0),
    "phonemes-1": Curve("embedded", "phonemes", 80, 1),
    "syllables-0": Curve("embedded", "syllables", 80, 0),
    "small-0": small(0),
    "small-1": small(1),
    "small-2": small(2),
    "small-low-rate-0": small(0, learning_rates=(5e-4,)),
    "small-low-rate-1": small(1, learning_rates=(5e-4,)),
    "small-low-rate-2": small(2, learning_rates=(5e-4,)),
    "small-alpha-r-0": small(0, alpha="r", learning_rates=(5e-4, 2e-3), ranks=(2, 8, 32)),
    "phonemes-2": Curve("embedded", "phonemes", 80, 2),
    "syllables-1": Curve("embedded", "syllables", 80, 1),
    "phonemes-alpha-r-0": Curve(
        "embedded", "phonemes", 80, 0, alpha="r", learning_rates=(1e-3, 3e-3), ranks=(2, 8, 64)
    ),
}
DATA = {"phonemes": "Spelling to sounds", "syllables": "Counting syllables", "spelling": "Sounds to spelling"}
BASES = {"embedded": "SmolLM2-135M-Instruct", "small": "a Llama of 1.5 M weights pretrained for this"}


def main(names: list[str]) -> None:
    for name in names or CASES:
        _run(name)
    target = ROOT / "assets" / "fidelity.json"
    published = {row["name"]: case_from(row) for row in json.loads(target.read_text("utf-8"))["cases"]}
    cases = [case for name in CASES if (case := _case(name) or published.get(name))]
    target.write_text(json.dumps(as_json(report(cases)), indent=1) + "\n", encoding="utf-8")
    print(f"{len(cases)} cases in {target.relative_to(ROOT)}")


def _api(base: str):
    from rankviz.api import Api

    return Api(home=HOME / base, shared=False)


def _run(name: str) -> None:
    """Unless it has run."""
    from rankviz.core.runs.request import SHORT_TRAINING, SweepRequest

    case = CASES[name]
    if _sweep_of(name):
        return
    api = _api(case.base)
    sweep_id = api.runs.start(
        SweepRequest(
            base=_base(case.base),
            data=_data(case.data),
            ranks=case.ranks,
            cut_ranks=case.ranks[:-1],
            lora_alpha=case.alpha,
            learning_rates=case.learning_rates,
            seeds=(case.seed,),
            held_out_examples=case.held_out,
            training=replace(
                SHORT_TRAINING, max_steps=case.steps, per_device_train_batch_size=case.batch, precision="fp32"
            ),
        )
    )
    for sweep in api.runs.follow(sweep_id):
        done = sum(run.state.ended for run in sweep.runs)
    print(f"{name}: {done} runs", flush=True)
    if all(run.state == "completed" for run in sweep.runs):
        _mark(name).write_text(sweep_id)


def _mark(name: str) -> Path:
    return HOME / CASES[name].base / f"{name}.sweep"


def _sweep_of(name: str) -> str | None:
    return _mark(name).read_text() if _mark(name).exists() else None


def _case(name: str):
    case = CASES[name]
    if (sweep_id := _sweep_of(name)) is None:
        return None
    return case_of(
        name,
        _api(case.base).runs.sweep(sweep_id).runs,
        base=BASES[case.base],
        data=DATA[case.data],
        alpha="r" if case.alpha == "r" else "fixed",
    )


def _base(name: str) -> str:
    if name == "embedded":
        return name
    from benchmarks.small_base import make_small_base

    folder = HOME / "small" / "base"
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_small_base(folder)
    return str(folder)


def _data(name: str) -> str:
    if name != "spelling":
        return name
    from benchmarks.small_base import write_spelling_data

    HOME.mkdir(parents=True, exist_ok=True)
    return str(write_spelling_data(HOME / "spelling.jsonl"))


def case_of(name: str, runs: Sequence[RunRecord], *, base: str, data: str, alpha: str) -> Case | None:
    """Of one seed's runs; None where the curve or a run of a rank on it is missing."""
    best: dict[int, RunRecord] = {}
    for run in runs:
        if run.loss_after is None or not math.isfinite(run.loss_after.loss):
            continue
        known = best.get(run.request.r)
        if known is None or run.loss_after.loss < known.loss_after.loss:
            best[run.request.r] = run
    curve = fast_curve(best[max(best)]) if best else None
    if curve is None or {point.r for point in curve.points} - best.keys():
        return None
    return _case_of(name, curve, best, base=base, data=data, alpha=alpha)


def _case_of(name: str, curve: FastCurve, best: Mapping[int, RunRecord], *, base: str, data: str, alpha: str) -> Case:
    independent = {r: run.loss_after.loss for r, run in sorted(best.items())}
    picked = pick(curve)
    request = best[curve.trained.r].request
    return Case(
        name=name,
        made=date.fromtimestamp(best[curve.trained.r].loss_after.time).isoformat(),
        base=base,
        data=data,
        alpha=alpha,
        steps=request.max_steps,
        seed=request.seed,
        learning_rate=request.learning_rate,
        precision=request.training.precision,
        differences={p.r: p.loss - independent[p.r] for p in curve.points[:-1]},
        independent=independent,
        picked=picked.r,
        regret=independent[picked.r] - min(independent.values()),
        regret_of_cut=picked.loss - min(independent.values()),
        regret_of_highest=independent[curve.trained.r] - min(independent.values()),
    )


def case_from(row: Mapping[str, Any]) -> Case:
    """A case of assets/fidelity.json."""
    by_rank = {name: {int(r): loss for r, loss in row[name].items()} for name in ("differences", "independent")}
    return Case(**{**row, **by_rank})


def as_json(fidelity: Fidelity) -> dict[str, Any]:
    """As assets/fidelity.json keeps it."""
    return asdict(fidelity)


def _spelled(by_rank: Mapping[int, float]) -> dict[str, float]:
    """Rounded to five digits; JSON has no numbers for keys."""
    return {str(r): round(value, 5) for r, value in by_rank.items()}


def report(cases: Sequence[Case]) -> Fidelity:
    """What these cases say, rounded to five digits."""
    fixed = [each for each in cases if each.alpha == "fixed"]
    return Fidelity(
        made=max((each.made for each in cases), default=None),
        tolerance_nats=TOLERANCE_NATS,
        cases=tuple(map(_rounded, cases)),
        median_absolute_difference={
            "r >= 8, fixed alpha": _median(fixed, lambda r: r >= 8),
            "r = 2 and 4, fixed alpha": _median(fixed, lambda r: r in (2, 4)),
            "r >= 8, alpha = r": _median([each for each in cases if each.alpha == "r"], lambda r: r >= 8),
        },
        independent_runs_apart={"r >= 8, fixed alpha": _apart(fixed, lambda r: r >= 8)},
        settings=_settings(cases),
        by_rank={
            str(r): {
                "cases": len(differences),
                "median_absolute": _median_absolute(differences),
                "low": round(min(differences), 5),
                "high": round(max(differences), 5),
            }
            for r in sorted({r for each in cases for r in each.differences})
            if (differences := [each.differences[r] for each in cases if r in each.differences])
        },
        regret_within_tolerance=sum(round(each.regret, 5) <= TOLERANCE_NATS for each in cases),
        cut_within_tolerance=sum(round(each.regret_of_cut, 5) <= TOLERANCE_NATS for each in cases),
        highest_within_tolerance=sum(round(each.regret_of_highest, 5) <= TOLERANCE_NATS for each in cases),
        largest_regret=round(max((each.regret for each in cases), default=0.0), 5),
    )


def _rounded(each: Case) -> dict[str, Any]:
    regrets = {name: round(getattr(each, name), 5) for name in ("regret", "regret_of_cut", "regret_of_highest")}
    losses = {"differences": _spelled(each.differences), "independent": _spelled(each.independent)}
    return {**each._asdict(), **losses, **regrets}


def _settings(cases: Sequence[Case]) -> tuple[dict[str, Any], ...]:
    """The seeds of a setting together: mean losses of truncated adapters and of runs, and what a choice costs against
    the best mean. The noise of a single run weighs less there."""
    settings: dict[tuple, list[Case]] = {}
    for each in cases:
        # A tuned learning rate is each case's own.
        rate = each.learning_rate if each.alpha == "fixed" else None
        settings.setdefault((each.base, each.data, each.steps, each.alpha, rate), []).append(each)
    return tuple(_together(each) for each in settings.values())


def _together(cases: Sequence[Case]) -> dict[str, Any]:
    losses = {r: fmean(each.independent[r] for each in cases) for r in cases[0].independent}
    best = min(losses.values())
    cut = fmean(each.independent[each.picked] + each.differences.get(each.picked, 0.0) for each in cases)
    first = cases[0]
    return {
        "base": first.base,
        "data": first.data,
        "steps": first.steps,
        "alpha": first.alpha,
        "learning_rate": first.learning_rate if first.alpha == "fixed" else None,
        "cases": len(cases),
        "differences": _spelled({r: fmean(each.differences[r] for each in cases) for r in first.differences}),
        "picked": sorted({each.picked for each in cases}),
        "regret": round(fmean(losses[each.picked] for each in cases) - best, 5),
        "regret_of_cut": round(cut - best, 5),
        "regret_of_highest": round(losses[max(losses)] - best, 5),
    }


def _apart(cases: Sequence[Case], of_rank: Callable[[int], bool]) -> float | None:
    """The yardstick: how far independent runs of two such ranks lie from one another, the median over pairs of a case.
    Were rank without effect there, it is what the noise between runs alone makes of a difference."""
    pairs = [combinations([loss for r, loss in each.independent.items() if of_rank(r)], 2) for each in cases]
    return _median_absolute(a - b for each in pairs for a, b in each)


def _median(cases: Sequence[Case], of_rank: Callable[[int], bool]) -> float | None:
    return _median_absolute(d for each in cases for r, d in each.differences.items() if of_rank(r))


def _median_absolute(differences: Iterable[float]) -> float | None:
    distances = [abs(d) for d in differences]
    return round(median(distances), 5) if distances else None


if __name__ == "__main__":
    main(sys.argv[1:])
