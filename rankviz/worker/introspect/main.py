"""Prints a model's layers and what its blocks keep in training as JSON, from its config.json.

    python -m rankviz.worker introspect FOLDER

The request.json of the folder names the config.json. No weight is read or allocated, and no code of the model's author
runs (trust_remote_code is False).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz.core.model.config_check import parse_config
from rankviz.core.model.json import model_from_json
from rankviz.core.model.spec import ModelSpec
from rankviz.worker.answering import answer, request_in

TOO_LARGE = "This config.json describes a model too large to lay out within the memory that RankViz allows for it."
ACTIVATION_SECONDS = 20.0
"""At most, for what blocks hold while they train; a second or two is usual, and an estimate can do without."""


def main(argv: Sequence[str]) -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"  # of a model nothing is wanted but what is here
    config = Path(request_in(argv[0])["config"])
    return answer(lambda: introspect(parse_config(config.read_bytes(), name=config.name)), too_large=TOO_LARGE)


def layers_of(config: Mapping[str, Any]) -> ModelSpec:
    """The model of a config.json without what its blocks hold in training: enough to resolve targets."""
    from rankviz.worker.introspect.layers import facts

    return model_from_json({"id": "", "name": "", **facts(config)})


def introspect(config: Mapping[str, Any], *, activation_seconds: float = ACTIVATION_SECONDS) -> dict[str, Any]:
    """A ModelSpec as a dict; id, name, source and the like are for the caller to add."""
    from rankviz.worker.introspect.activations import block_activations
    from rankviz.worker.introspect.layers import facts

    layers = facts(config)
    spec = model_from_json({"id": "", "name": "", **layers})
    return {**layers, "activation_bytes_per_token": block_activations(config, spec, seconds=activation_seconds)}
