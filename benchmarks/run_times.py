"""How good the announced time of runs is: finished runs replayed in their order, each announced from those before it.

python -m benchmarks.run_times HOME [HOME ...]      prints coverage and width for the runs folders of one machine
python -m benchmarks.run_times HOME --to FILE.csv   writes their times, as assets/run_times.csv has them
python -m benchmarks.run_times FILE.csv             prints the same from such a file

Runs whose journal does not say how busy the machine was are replayed apart: what they took is no evidence for the rest.
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rankviz.api import Api
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.pace import PARTS, Difference, Others, Part, Spell, Timing, Workload, others, paces
from rankviz.core.quantity import Range, middle
from rankviz.core.runs.estimate import workload_of
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import FormulaTimes, evaluated, timing_of
from rankviz.core.runs.sweep_time import formula_times
from rankviz.units import counted

COLUMNS = (
    "run_id", "ended_at", "base", "parameters", "kernels", "data", "tokens", "evaluated",
    *(f"{part}_ratio" for part in PARTS), "load_expected", "training_expected", "evaluation_of_one_expected",
    *(f"{part}_slowdown" for part in PARTS), "began_at", "load_average", "threads", "cpus",
)  # fmt: skip
"""Ratios are measured over expected; expected is in seconds, and so is rest_ratio. Slowdowns by other programs and the
rest of the last columns are empty where the journal does not have them."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("homes", nargs="+", type=Path, metavar="HOME")
    parser.add_argument("--to", type=Path, help="write the runs into this CSV file")
    args = parser.parse_args(argv)
    finished = [run for home in args.homes for run in (of_home(home) if home.is_dir() else read(home))]
    if args.to:
        write(finished, args.to)
    for title, runs in zip(("busyness recorded", "busyness not recorded"), by_recording(finished), strict=True):
        for name, announced in groups(replay(runs, Api().workspace.assumptions)).items():
            if found := coverage(announced):
                print(
                    f"{title}, {name}: {found.inside} of {found.runs} inside, high / low {found.middle_width:.2f} "
                    f"(median), {found.widest:.2f} (widest)"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """One run that has ended."""

    timing: Timing
    expected: FormulaTimes
    evaluated: int
    """Held-out examples, over all evaluations that it made itself."""
    cpus: int = 1
    """Of its machine."""

    @property
    def seconds(self) -> float:
        """What its measured parts took together."""
        ratios, expected = self.timing.ratios, self.expected
        return (
            ratios.get("load", 0.0) * expected.load
            + ratios.get("training", 0.0) * expected.training
            + ratios.get("evaluation", 0.0) * expected.evaluation_of_one * self.evaluated
            + ratios.get("rest", 0.0)
        )


class Announced(NamedTuple):
    """One run, and what would have been announced of it."""

    finished: Finished
    seconds: Range
    differs: Difference
    """Of the runs that its training was announced from."""
    sources: int
    """How many of them."""

    @property
    def inside(self) -> bool:
        return self.seconds.holds(self.finished.seconds)


class Coverage(NamedTuple):
    """How many runs were inside their announced range, and how wide it was."""

    runs: int
    inside: int
    middle_width: float
    """The median of high / low."""
    widest: float


def replay(finished: Iterable[Finished], assume: Assumptions) -> Sequence[Announced]:
    """Each run that had comparable ones before it, and was long enough to measure its training. finished: of one
    machine."""
    ordered = sorted(finished, key=lambda each: each.timing.ended_at)
    announced = (_announce(run, [each.timing for each in ordered[:place]], assume) for place, run in enumerate(ordered))
    return [each for each in announced if each is not None]


def coverage(announced: Sequence[Announced]) -> Coverage | None:
    """None of no runs."""
    if not announced:
        return None
    widths = [each.seconds.high / each.seconds.low for each in announced]
    return Coverage(len(announced), sum(each.inside for each in announced), middle(widths), max(widths))


def _announce(run: Finished, before: Sequence[Timing], assume: Assumptions) -> Announced | None:
    found = paces(before, run.timing.workload, assume, _others(run, before))
    measured = run.timing.ratios
    if found.training is None or "training" not in measured:
        return None
    total = found.training.range(run.expected.training)
    if "evaluation" in measured and found.evaluation:
        total = total.plus(found.evaluation.range(run.expected.evaluation_of_one * run.evaluated))
    if "rest" in measured and found.rest:
        total = total.plus(found.rest.range(1.0))
    if "load" in measured and found.load:
        total = found.load.range(run.expected.load).plus_independent(total)
    return Announced(run, total, found.training.differs, len(found.training.sources))


def _others(run: Finished, before: Sequence[Timing]) -> Others | None:
    timing = run.timing
    if timing.load_average is None or timing.began_at is None:
        return None
    spells = [
        Spell(began_at=each.began_at, ended_at=each.ended_at, threads=each.threads) for each in before if each.began_at
    ]
    return others(timing.load_average, timing.began_at, run.cpus, spells)


def by_recording(finished: Iterable[Finished]) -> tuple[list[Finished], list[Finished]]:
    """Those whose journal says how busy the machine was, and those whose does not."""
    finished = list(finished)
    recorded = [run for run in finished if run.timing.slowdowns]
    return recorded, [run for run in finished if not run.timing.slowdowns]


def of_home(home: Path) -> Sequence[Finished]:
    """The finished runs of a runs folder, of any machine."""
    api = Api(home=home)
    completed = [record for record in api.workspace.store.all() if record.state == "completed"]
    return [finished for record in completed if (finished := _of_run(api, record)) is not None]


def _of_run(api: Api, record: RunRecord) -> Finished | None:
    device, request = api.workspace.device(record.environment), record.request
    if (model := api.models.at_hand(request.base)) is None:
        return None
    rows = api.measured.row_tokens(request)
    if (seconds := api.measured.formulas(model, request, device, rows).formula_seconds) is None:
        return None
    expected = formula_times(model, request, seconds, api.workspace.assumptions)
    timing = timing_of(record, workload_of(model, request, device, rows), expected)
    cpus = record.environment.get("cpu_count") or 1
    return timing and Finished(timing=timing, expected=expected, evaluated=evaluated(record), cpus=cpus)


def groups(announced: Iterable[Announced]) -> dict[str, list[Announced]]:
    """By what the announcement rested on."""
    found: dict[str, list[Announced]] = {}
    for each in announced:
        like = each.differs is Difference.NONE
        name = counted(each.sources, "like run") if like else f"other {each.differs.name.lower()}"
        found.setdefault(name, []).append(each)
    return found


def write(finished: Iterable[Finished], path: Path) -> None:
    """Paths of bases and data are cut to their last part."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(run) for run in sorted(finished, key=lambda run: run.timing.ended_at))


def read(path: Path) -> list[Finished]:
    """The runs of such a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_finished(row) for row in csv.DictReader(file)]


def _row(run: Finished) -> dict[str, object]:
    timing, workload = run.timing, run.timing.workload
    return {
        "run_id": timing.source_id,
        "ended_at": round(timing.ended_at),
        "base": workload.base if not Path(workload.base).is_absolute() else Path(workload.base).name,
        "parameters": workload.parameters,
        "kernels": " ".join(workload.kernels),
        "data": Path(workload.data).name,
        "tokens": round(workload.tokens, 1),
        "evaluated": run.evaluated,
        **{f"{part}_ratio": _short(timing.ratios.get(part)) for part in PARTS},
        "load_expected": _short(run.expected.load),
        "training_expected": _short(run.expected.training),
        "evaluation_of_one_expected": _short(run.expected.evaluation_of_one),
        **{f"{part}_slowdown": _short(timing.slowdowns.get(part)) for part in PARTS},
        "began_at": "" if timing.began_at is None else round(timing.began_at),
        "load_average": _short(timing.load_average),
        "threads": _short(timing.threads),
        "cpus": run.cpus,
    }


def _finished(row: dict[str, str]) -> Finished:
    workload = Workload(
        base=row["base"],
        parameters=int(row["parameters"]),
        kernels=tuple(row["kernels"].split()),
        data=row["data"],
        tokens=float(row["tokens"]),
    )
    return Finished(
        timing=Timing(
            source_id=row["run_id"],
            kind="run",
            ended_at=float(row["ended_at"]),
            workload=workload,
            ratios=_parts(row, "ratio"),
            slowdowns=_parts(row, "slowdown"),
            began_at=_number(row["began_at"]),
            load_average=_number(row["load_average"]),
            threads=_number(row["threads"]) or 0.0,
        ),
        expected=FormulaTimes(
            load=float(row["load_expected"]),
            training=float(row["training_expected"]),
            evaluation_of_one=float(row["evaluation_of_one_expected"]),
        ),
        evaluated=int(row["evaluated"]),
        cpus=int(row["cpus"] or 1),
    )


def _parts(row: dict[str, str], column: str) -> dict[Part, float]:
    return {part: float(row[f"{part}_{column}"]) for part in PARTS if row[f"{part}_{column}"]}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


if __name__ == "__main__":
    main()
