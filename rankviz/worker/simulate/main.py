"""Runs `python -m rankviz.worker simulate FOLDER`: prints as JSON what simulated training steps hold.

The request.json of the folder names the config.json, the card, the adapter and the training. No weight is read and no
code of the model's author runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.from_json import build
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.config_check import parse_config
from rankviz.errors import RankVizError, UserError
from rankviz.paths import ASSETS
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    return answer(lambda: simulated(request_in(argv[0])))


def simulated(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `Simulated` as JSON; UserError where the model's code does not run on the simulated card."""
    from rankviz.worker.simulate.card import become, prepare

    prepare()
    training, gpu = build(TrainingSetup, request["training"]), find_gpu(load_gpus(ASSETS), request["gpu"])
    if training.framework == "unsloth":
        from rankviz.worker.simulate.unsloth_import import import_unsloth

        import_unsloth(become(gpu))
    from rankviz.worker.introspect.layers import layers_of
    from rankviz.worker.simulate.step import simulate_whole

    config = parse_config(Path(request["config"]).read_bytes())
    try:
        run = simulate_whole(
            config,
            layers_of(config),
            build(LoraConfig, request["lora"]),
            training,
            gpu,
            padded=request["padded"],
            full=request["full"],
        )
    except (RankVizError, MemoryError):
        raise
    except Exception as error:
        # Any architecture may do what no FakeTensor can.
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"This model's code does not run on the simulated card ({type(error).__name__}: {words}). "
            "Use the estimate, or `rankviz probe` on a machine with a GPU."
        ) from error
    return asdict(run)
