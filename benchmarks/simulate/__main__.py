"""`python -m benchmarks.simulate MODEL --gpu T4`: prints what simulated training steps of a model hold on a GPU.

No weight is read, no GPU is needed, and no code of the model's author runs; a C++ compiler is needed once.
"""

import argparse
from dataclasses import replace

from benchmarks.simulate.card import become, prepare
from rankviz import units
from rankviz.api import Api
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.core.cost.setup import card
from rankviz.core.lora.config import LoraConfig
from rankviz.core.probe import PROBE_TRAINING
from rankviz.paths import ASSETS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="catalogue id, Hub id, folder or config.json")
    parser.add_argument("--gpu", default="T4")
    parser.add_argument("-r", "--rank", type=int, default=16)
    parser.add_argument("--framework", default="trl", choices=("unsloth", "trl", "peft"))
    parser.add_argument("--precision", default="nf4-dq")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--accum", type=int, default=1)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--padded", action="store_true", help="the batch has padding, so attention gets a mask")
    parser.add_argument("--full", action="store_true", help="run all blocks, instead of two depths and a line")
    given = parser.parse_args()
    prepare()
    gpu = find_gpu(load_gpus(ASSETS), given.gpu)
    training = replace(
        PROBE_TRAINING,
        framework=given.framework,
        precision=given.precision,
        per_device_train_batch_size=given.batch,
        gradient_accumulation_steps=given.accum,
        max_length=given.max_length,
    ).settle(card(gpu))
    if training.framework == "unsloth":
        from benchmarks.simulate.unsloth_import import import_unsloth

        import_unsloth(become(gpu))
    from benchmarks.simulate.step import simulate_whole
    from rankviz.worker.introspect.layers import layers_of

    config, lora = Api().models.config(given.model), LoraConfig(r=given.rank)
    run = simulate_whole(config, layers_of(config), lora, training, gpu, padded=given.padded, full=given.full)
    print(f"{given.model} on a simulated {gpu.name}: {training}")
    rows = {
        "Allocated": run.allocated,
        "Reserved": run.reserved,
        "Base": run.loaded,
        "With adapter": run.static,
    }
    for name, value in (rows | {f"Peak: {name}": value for name, value in run.moments.items()}).items():
        print(f"{name:<40}{units.memory_size(value):>12}")
    print(f"Attention kernels: {dict(run.kernels)}")


if __name__ == "__main__":
    main()
