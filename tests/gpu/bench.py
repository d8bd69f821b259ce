"""What the checks share: runs and probes by the true workers in a home of their own, and small programs beside them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rankviz.api import Api
from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import SweepRequest
from rankviz.jobs import Attempt, local
from rankviz.machine import cards
from rankviz.paths import IMPORT_ROOT
from tests.support.runs import questions

ONE_B, EIGHT_B = "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B"
MANY_STEPS, FEW_STEPS = 40, 8
"""Of a run whose loss or times are looked at, and of one that only has to complete."""
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Bench:
    """Runs are made once, however many checks look at them."""

    def __init__(self, home: Path):
        self.api = Api(home=home, shared=False)
        self.store = self.api.workspace.store

    @cached_property
    def main(self) -> Sequence[RunRecord]:
        """r = 4, 16 and 4 again with one seed, then DoRA, rsLoRA and a fast curve, in one worker on one base."""
        return self.together(
            self.embedded(4, max_steps=MANY_STEPS),
            self.embedded(16, max_steps=MANY_STEPS),
            self.embedded(4, max_steps=MANY_STEPS),
            self.embedded(8, use_dora=True),
            self.embedded(8, use_rslora=True),
            self.embedded(16, cut_ranks=(8, 4, 2)),
        )

    @cached_property
    def uncompiled(self) -> RunRecord:
        """r = 4 as in `main`, without Unsloth's compiled blocks."""
        command = ("env", "UNSLOTH_BLOCK_COMPILE=0", *local.COMMANDS["finetune"])
        (run,) = self.together(self.embedded(4, max_steps=MANY_STEPS), command=command)
        return run

    @cached_property
    def in_16_bit(self) -> RunRecord:
        (run,) = self.together(self.embedded(16, precision="bf16"))
        return run

    def embedded(self, r: int, **settings: Any) -> SweepRequest:
        """A run of the embedded base on the phonemes."""
        asked = {"precision": "nf4-dq", "max_steps": FEW_STEPS, "target_modules": SEVEN, **settings}
        return questions.sweep(base="embedded", data="phonemes", ranks=(r,), **asked)

    def together(self, *requests: SweepRequest, command: Sequence[str] = ()) -> Sequence[RunRecord]:
        """Runs of several sweeps in one worker, in this order; how they ended is for the check to say."""
        run_ids = [self.store.run_ids(self.store.create(request))[0] for request in requests]
        self.api.workspace.supervisor.stop()  # it would give each sweep a worker of its own
        log = self.store.home / "worker.log"
        worker = None
        while worker is None:  # threads of the last one may hold the lock for a moment
            worker = local.launch(
                command or local.COMMANDS["finetune"],
                local.lock_file(self.store.home),
                [Attempt(run_id) for run_id in run_ids],
                log,
                cards.worker_environment(),
            )
        worker.popen.wait()
        worker.end(grace_seconds=1)
        return [self.store.get(run_id) for run_id in run_ids]

    def begun(self, request: SweepRequest) -> str:
        """A run that has logged a step and goes on."""
        run_id = self.store.run_ids(self.store.create(request))[0]
        self.api.workspace.work_queue()
        while not self.store.get(run_id).steps and not self.store.get(run_id).state.ended:
            time.sleep(0.2)
        return run_id

    def probe(self, model_id: str, **settings: Any) -> ProbeRecord:
        """The record of a probe that has ended."""
        asked = {"r": 16, "max_length": 1024, "time_limit_seconds": 500, "target_modules": SEVEN, **settings}
        probe_id = self.api.machine.start_probe(questions.probe(model_id, **asked))
        *_, record = self.api.machine.follow_probe(probe_id, 0.2)
        self.api.workspace.supervisor.stop()
        return record

    def program(self, name: str, *arguments: str, precision: str = "") -> dict[str, Any]:
        """What a function of programs.py says, run in a process of its own."""
        asked = precision or "nf4-dq"
        done = subprocess.run(
            [sys.executable, "-m", "tests.gpu.programs", name, str(self.store.home), asked, *arguments],
            cwd=IMPORT_ROOT,
            env={**os.environ, **cards.worker_environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"{name} ended with {done.returncode}"])[-1])
        return json.loads(done.stdout.strip().splitlines()[-1])

    def used_bytes(self) -> int | None:
        """Of the card, by all programs; None without one."""
        card = cards.chosen(cards.read_driver())
        return card.used_bytes if card else None


def expected_bytes(bench: Bench, record: ProbeRecord) -> tuple[float, float]:
    """The estimate's range of what this probe measured."""
    memory = bench.api.machine.estimate_probe(record).memory_bytes
    return memory.low, memory.high
