"""`make test-gpu`, or `python -m tests.gpu [--only 1,5] [--out DIR]`: the acceptance suite on one NVIDIA GPU.

Offline, under ten minutes on one card. It prints a table and writes it as results.json, and each probe of a whole
model as a row of rows.csv, in the form of assets/validation/*.csv. Without a card it says so and checks nothing.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rankviz.core.preflight import uses_gpu
from tests.gpu.bench import Bench
from tests.gpu.checks import CHECKS, AcceptanceCheck, write_rows


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="rankviz-gpu-") as scratch:
        bench = Bench(arguments.home or Path(scratch))
        facts = bench.api.machine.facts()
        if not uses_gpu(facts):
            print("Skipped: there is no NVIDIA GPU here that torch can use. `rankviz doctor` says what is missing.")
            return 0
        arguments.out.mkdir(parents=True, exist_ok=True)
        wanted = arguments.only or {check.number for check in CHECKS}
        results = [measure(check, bench) for check in CHECKS if check.number in wanted]
        rows = write_rows(bench, arguments.out / "rows.csv")
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    failed = [result["number"] for result in results if not result["ok"]]
    passed = len(results) - len(failed)
    print(f"\n{passed} of {len(results)} checks passed on {facts.card.name}; {rows} rows in {arguments.out}.")
    return 1 if failed else 0


def measure(check: AcceptanceCheck, bench: Bench) -> dict:
    started = time.monotonic()
    try:
        measured, ok = check.measure(bench)
    except Exception as error:  # one check that breaks must not hide what the others say
        measured, ok = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}", False
    seconds = time.monotonic() - started
    print(f"{'passed' if ok else 'FAILED':<7} {check.number:>2}  {check.what:<32} {seconds:>5.0f} s", flush=True)
    print(f"            expected {check.expected}\n            measured {measured}", flush=True)
    return {
        "number": check.number,
        "what": check.what,
        "expected": check.expected,
        "measured": measured,
        "ok": bool(ok),
        "seconds": round(seconds, 1),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only", type=lambda text: {int(part) for part in text.split(",")}, help="numbers of checks, such as 1,5"
    )
    parser.add_argument("--out", type=Path, default=Path("gpu-acceptance"), help="where results.json and rows.csv go")
    parser.add_argument("--home", type=Path, help="a runs folder to use and keep; else one that is removed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
