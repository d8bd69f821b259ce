"""Runs `python -m rankviz.worker simulate FOLDER`: prints as JSON what simulated training steps hold.

The request.json of the folder has the model's config, the card, the adapter and the training. No weight is read and no
code of the model's author runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.from_json import build
from rankviz.core.lora.config import LoraConfig
from rankviz.errors import RankVizError, UserError
from rankviz.paths import ASSETS
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    return answer(lambda: simulated(**request_in(argv[0])))


def simulated(
    config: Mapping[str, Any], gpu: str, lora: Mapping[str, Any], training: Mapping[str, Any], **how: bool
) -> dict[str, Any]:
    """Return a `Simulated` as JSON; UserError where the model's code does not run on the simulated card."""
    from rankviz.worker.simulate.card import become, import_unsloth, prepare

    prepare()
    setup, card = build(TrainingSetup, training), find_gpu(load_gpus(ASSETS), gpu)
    if setup.framework == "unsloth":
        import_unsloth(become(card))
    from rankviz.worker.introspect.layers import layers_of
    from rankviz.worker.simulate.step import simulate_whole

    try:
        return asdict(simulate_whole(config, layers_of(config), build(LoraConfig, lora), setup, card, **how))
    except (RankVizError, MemoryError):
        raise
    except Exception as error:  # any architecture may do what no tensor without values can
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"This model's code does not run on the simulated card ({type(error).__name__}: {words}). "
            "Use the estimate, or `rankviz probe` on a machine with a GPU."
        ) from error
