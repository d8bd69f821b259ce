"""How good the announced time of runs is: finished runs replayed in their order, each announced from those before it.

python -m benchmarks.run_times HOME [HOME ...]      prints coverage and width for the runs folders of one machine
python -m benchmarks.run_times HOME --to FILE.csv   writes their times, as assets/run_times.csv has them
python -m benchmarks.run_times FILE.csv             prints the same from such a file

Runs whose journal does not say how busy the machine was are replayed apart: what they took is no evidence for the rest.
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from rankviz.api import Api
from rankviz.core.cost.pace import PARTS, Difference, Part, Timing, Workload
from rankviz.core.runs.run_time import Announced, Finished, FormulaTimes, coverage, replay
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


def by_recording(finished: Iterable[Finished]) -> tuple[list[Finished], list[Finished]]:
    """Those whose journal says how busy the machine was, and those whose does not."""
    finished = list(finished)
    recorded = [run for run in finished if run.timing.slowdowns]
    return recorded, [run for run in finished if not run.timing.slowdowns]


def of_home(home: Path) -> Sequence[Finished]:
    """The finished runs of a runs folder."""
    return Api(home=home).measured.finished()


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
