"""The settings of Unsloth in `make truth`. Each family on a card has a process of its own, since Unsloth looks at the
card while it is imported, and that before transformers is: `python -m benchmarks.truth_unsloth NUMBER` answers for one.

Blocks are not compiled in them: what torch.compile makes of a block is not simulated, and what it may add is in the
range of the estimate (width-unsloth-compiled).
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.truth import CPU_SECONDS, Setting, attempt
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import targets_in
from rankviz.paths import ASSETS, IMPORT_ROOT

GROUPS = {
    "A100-80GB (SXM)": {
        "llama": (("meta-llama/Llama-3.2-1B", "bf16", 2, 2048, 16), ("meta-llama/Llama-3.1-8B", "nf4-dq", 2, 2048, 64)),
        "qwen3": (("Qwen/Qwen3-4B", "bf16", 2, 2048, 16), ("Qwen/Qwen3-8B", "nf4-dq", 1, 8192, 8)),
    },
    "L4": {
        "qwen2": (("Qwen/Qwen2.5-1.5B", "bf16", 4, 1024, 16), ("Qwen/Qwen2.5-7B-Instruct", "nf4-dq", 2, 2048, 32)),
        "mistral": (("mistralai/Mistral-7B-v0.3", "nf4-dq", 1, 4096, 16, "attention"),),
    },
    "T4": {
        "llama": (("meta-llama/Llama-3.2-1B", "fp16", 2, 2048, 16), ("meta-llama/Llama-3.1-8B", "nf4-dq", 2, 2048, 16)),
        "qwen3": (("Qwen/Qwen3-4B", "nf4-dq", 1, 1024, 16),),
    },
}
"""By card and family: model, precision, batch, length, rank, and targets where they are not all linear layers."""


def groups() -> list[list[Setting]]:
    """Settings of one process each."""
    return [
        [_setting(gpu, *each) for each in settings]
        for gpu, families in GROUPS.items()
        for settings in families.values()
    ]


def _setting(
    gpu: str, model_id: str, precision: str, batch: int, length: int, r: int, targets: str = "all-linear"
) -> Setting:
    return Setting(
        model_id=model_id,
        gpu=gpu,
        lora=LoraConfig(r=r, target_modules=targets_in(targets)),
        training=TrainingSetup(
            framework="unsloth", precision=precision, per_device_train_batch_size=batch, max_length=length
        ),
    )


def simulate_all(settings: Sequence[Setting], _jobs: int) -> Iterator[tuple[Setting, dict[str, Any]]]:
    """One process after the other."""
    for number, group in enumerate(groups()):
        wanted = [each for each in group if each in settings]
        if not wanted:
            continue
        command = [sys.executable, "-m", "benchmarks.truth_unsloth", str(number)]
        done = subprocess.run(command, cwd=IMPORT_ROOT, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        answers = [json.loads(line) for line in lines] or [{"error": done.stderr[-300:]}] * len(group)
        yield from ((each, answer) for each, answer in zip(group, answers, strict=True) if each in wanted)


def main(number: int) -> None:
    """Print one line of JSON for each setting of a group."""
    group = groups()[number]
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS * len(group), CPU_SECONDS * len(group)))
    from benchmarks.unsloth_card import import_unsloth
    from rankviz.worker.simulate.card import become

    import_unsloth(become(find_gpu(load_gpus(ASSETS), group[0].gpu)))
    from benchmarks.unsloth_steps import UnslothRun

    for setting in group:
        began = time.monotonic()
        print(json.dumps(attempt(setting, UnslothRun) | {"seconds": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
