"""`make fidelity`: fast curves beside independent runs, real ones, and assets/fidelity.json with what came of it.

One to two hours on two quiet cores. What has run stays in build/fidelity, so that it goes on where it stopped. Name
cases to run only those (`python -m benchmarks.fidelity small-0`): the others stand as they were published. Each base
has a runs folder of its own, so that two can go side by side.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
HOME = ROOT / "build" / "fidelity"
RANKS = (2, 4, 8, 16, 64)
SPELLING_RANKS = (2, 4, 8, 16, 32)
"""Of the small base, whose hidden size is 192."""


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
    from rankviz.core.runs import fast_curve

    for name in names or CASES:
        _run(name)
    target = ROOT / "assets" / "fidelity.json"
    published = {case.name: case for case in fast_curve.from_json(json.loads(target.read_text("utf-8"))).cases}
    cases = [case for name in CASES if (case := _case(name) or published.get(name))]
    target.write_text(json.dumps(fast_curve.as_json(fast_curve.report(cases)), indent=1) + "\n", encoding="utf-8")
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
            alpha=case.alpha,
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
    from rankviz.core.runs import fast_curve

    case = CASES[name]
    if (sweep_id := _sweep_of(name)) is None:
        return None
    return fast_curve.case(
        name,
        _api(case.base).sweep(sweep_id).runs,
        base=BASES[case.base],
        data=DATA[case.data],
        alpha="r" if case.alpha == "r" else "fixed",
    )


def _base(name: str) -> str:
    if name == "embedded":
        return name
    from tests.support.models.small_base import make_small_base

    folder = HOME / "small" / "base"
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_small_base(folder)
    return str(folder)


def _data(name: str) -> str:
    if name != "spelling":
        return name
    from tests.support.models.small_base import write_spelling_data

    HOME.mkdir(parents=True, exist_ok=True)
    return str(write_spelling_data(HOME / "spelling.jsonl"))


if __name__ == "__main__":
    main(sys.argv[1:])
