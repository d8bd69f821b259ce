"""Changes the code at random places, one at a time, and counts how many of these changes the tests notice.

    python -m benchmarks.mutants [--mutants 300] [--seed 26] [--jobs 2]

The changes are cosmic-ray's: another operator, number, comparison or constant, a decorator less. Rooms, operators and
time limits stand in pyproject.toml, [tool.cosmic-ray]. Each mutant is tried with the tests that ran its line (at
module level: that ran any of its file), the quickest and those that killed most before it first. Prints killed and
survived by room, names each survivor with its change, and writes RESULT, which docs/code.md shows.
"""

import argparse
import json
import math
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tests.support.measured import measured

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "docs" / "mutants.json"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["cosmic-ray"]


class Mutant(NamedTuple):
    """One change of one place."""

    file: str
    line: int
    operator: str
    code: str
    """The whole file, changed."""


class Tests(NamedTuple):
    """What ran where, as the unchanged code was tested."""

    of_line: Mapping[tuple[str, int], frozenset[str]]
    of_file: Mapping[str, frozenset[str]]
    cases: Mapping[str, Mapping[str, float]]
    """Seconds by node id, by test: its parameters one by one where their names are plain."""
    kills: Counter[str]
    """How many mutants each test has killed so far."""

    def of(self, mutant: Mutant) -> list[str]:
        """Node ids, those that kill most in a second first, as many as the time for one mutant allows."""
        names = self.of_line.get((mutant.file, mutant.line)) or self.of_file.get(mutant.file, frozenset())
        seconds = {node: took for name in names for node, took in self.cases[name].items()}
        chosen, total = [], 0.0
        for node in sorted(seconds, key=lambda node: (seconds[node] + 0.05) / (self.kills[node] + 0.2)):
            total += seconds[node]
            if total < SETTINGS["seconds-of-tests"]:
                chosen.append(node)
        return chosen


def places(file: str) -> Iterator[list[Callable[[], Mutant]]]:
    """What makes each mutant of a place, for each place in a file that an operator changes. Of a decorator, only
    its removal: nothing behaves differently with slots=False, or with a cache of 511 entries."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    code = (ROOT / file).read_text("utf-8")
    tree, found = get_ast(code), defaultdict(list)
    lines = code.splitlines()
    for name in operator_names():
        if any(word in name for word in SETTINGS["excluded-operators"]) or get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        spots = [start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node)]
        for number, start in enumerate(spots):
            if "Decorator" in name or not lines[start[0] - 1].lstrip().startswith("@"):
                found[start].append((name, number))
    for (line, _), changes in found.items():
        yield [
            lambda name=name, number=number, line=line: Mutant(
                file, line, name, mutate_code(code, get_operator(name)(), number)
            )
            for name, number in changes
        ]


def drawn(count: int, seed: int) -> list[Mutant]:
    """As many places of all rooms, drawn at random, with one change each."""
    rng = random.Random(seed)
    files = sorted(str(path.relative_to(ROOT)) for room in SETTINGS["rooms"] for path in (ROOT / room).rglob("*.py"))
    every = [place for file in files for place in places(file)]
    mutants = (rng.choice(place)() for place in rng.sample(every, min(len(every), 2 * count)))
    whole = [mutant for mutant in mutants if mutant.code and _compiles(mutant.code)]
    return whole[:count]


def _compiles(code: str) -> bool:
    try:
        return bool(compile(code, "mutant", "exec"))
    except SyntaxError:
        return False


def copied(folder: Path) -> Path:
    """The files of the repository, to be changed there."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def run(
    folder: Path, *arguments: str, before: Sequence[str] = (), timeout: float | None = None
) -> tuple[int, list[str]]:
    """Pytest's exit status in a copy, 1 where it took too long, and the tests that failed."""
    command = [sys.executable, *before, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"]
    # A .pyc of the same size and second would be taken for the changed file's.
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return 1, []
    return ended.returncode, re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)


def tested(folder: Path) -> Tests:
    """Runs all tests on the unchanged code and notes which lines each of them ran."""
    from coverage import CoverageData

    (folder / "coverage.ini").write_text(f"[run]\ndynamic_context = test_function\nsource = {','.join(_packages())}\n")
    cases = []
    for marks, names in SETTINGS["tests"].items():
        before = ("-m", "coverage", "run", "--append", "--rcfile=coverage.ini")
        status, _ = run(folder, "-m", marks, *names, "--junitxml=tests.xml", before=before)
        if status not in (0, 1):
            raise SystemExit(f"The tests of the unchanged code could not run: pytest ended with {status}.")
        cases += [
            (f"{case.get('classname').replace('.', '/')}.py::{case.get('name').partition('[')[0]}", case)
            for case in ET.parse(folder / "tests.xml").iter("testcase")
        ]
    failing = {name for name, case in cases if case.find("failure") is not None or case.find("error") is not None}
    for name in sorted(failing):
        print(f"{name} fails on the unchanged code and is left out.")
    took = defaultdict(Counter)
    for name, case in cases:
        _, _, parameters = case.get("name").partition("[")
        node = f"{name}[{parameters}" if re.fullmatch(r"[\w.-]+\]", parameters) else name
        took[name][node] += float(case.get("time"))
    of_line, of_file = {}, defaultdict(set)
    data = CoverageData(str(folder / ".coverage"))
    data.read()
    for path in data.measured_files():
        file = str(Path(path).relative_to(folder.resolve()))
        for line, contexts in data.contexts_by_lineno(path).items():
            names = {f"{'/'.join(c.split('.')[:-1])}.py::{c.split('.')[-1]}" for c in contexts if ".test_" in c}
            of_line[file, line] = frozenset(names - failing)
            of_file[file] |= names - failing
    return Tests(of_line, {file: frozenset(names) for file, names in of_file.items()}, took, Counter())


def _packages() -> list[str]:
    return [room.replace("/", ".") for room in SETTINGS["rooms"]]


def is_killed(mutant: Mutant, tests: Tests, folder: Path) -> bool:
    """Whether a test fails, or none ends in time, with the change in this copy."""
    names = tests.of(mutant)
    if not names:
        return False
    path = folder / mutant.file
    before = path.read_text("utf-8")
    path.write_text(mutant.code, "utf-8")
    try:
        status, failed = run(folder, "-x", "--tb=no", "-m", "not slow", *names, timeout=SETTINGS["timeout"])
        tests.kills.update(failed)
        return bool(status)
    finally:
        path.write_text(before, "utf-8")


def change(mutant: Mutant) -> str:
    """The changed lines."""
    lines = unified_diff((ROOT / mutant.file).read_text("utf-8").splitlines(), mutant.code.splitlines(), n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def room_of(mutant: Mutant) -> str:
    return next(room for room in SETTINGS["rooms"] if mutant.file.startswith(room))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants", type=int, default=SETTINGS["mutants"])
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    mutants = drawn(asked.mutants, asked.seed)
    changes = [change(mutant) for mutant in mutants]
    with TemporaryDirectory(prefix="rankviz-mutants-") as place, ThreadPoolExecutor(asked.jobs) as pool:
        free: queue.Queue[Path] = queue.Queue()
        for number in range(asked.jobs):
            free.put(copied(Path(place).resolve() / str(number)))
        tests = tested(free.queue[0])

        def tried(mutant: Mutant) -> bool:
            folder = free.get()
            try:
                dead = is_killed(mutant, tests, folder)
            finally:
                free.put(folder)
            print("killed  " if dead else "SURVIVED", f"{mutant.file}:{mutant.line}", mutant.operator, flush=True)
            return dead

        killed = list(pool.map(tried, mutants))
    result: dict[str, Any] = {"seed": asked.seed, **measured(), "rooms": {}}
    for room in SETTINGS["rooms"]:
        of_room = [dead for mutant, dead in zip(mutants, killed, strict=True) if room_of(mutant) == room]
        result["rooms"][room] = {"mutants": len(of_room), "killed": sum(of_room)}
        print(f"{room}: {sum(of_room)} of {len(of_room)} killed")
    for mutant, dead, changed in zip(mutants, killed, changes, strict=True):
        if not dead:
            tries = len(tests.of(mutant))
            print(f"\nsurvived {tries} tests: {mutant.file}:{mutant.line} {mutant.operator}\n{changed}")
    share = sum(killed) / max(1, len(killed))
    print(f"\n{sum(killed)} of {len(killed)} killed, {share:.0%}; to reach: {SETTINGS['to-reach']:.0%}")
    if len(mutants) >= SETTINGS["mutants"]:  # fewer are a try
        RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    sys.exit(0 if math.isclose(share, 1) or share >= SETTINGS["to-reach"] else 1)


if __name__ == "__main__":
    main()
