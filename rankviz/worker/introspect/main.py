"""Prints a model's layers and what its blocks keep in training as JSON, from its config.json.

    python -m rankviz.worker introspect CONFIG.json [--memory-bytes N] [--cpu-seconds N]

No weight is read or allocated, no code of the model's author runs (trust_remote_code is False), and the limits are
set before torch is imported. Standard output holds one JSON object: the ModelSpec, or {"error": class, "message":
sentence} with exit code 2.
"""

import argparse
import json
import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz.core.model.config_check import parse_config
from rankviz.core.model.json import model_from_json
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import UserError

TOO_LARGE = "This config.json describes a model too large to lay out within the memory that RankViz allows for it."
ACTIVATION_SECONDS = 20.0
"""At most, for what blocks hold while they train; a second or two is usual, and an estimate can do without."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="introspect")
    parser.add_argument("config", type=Path)
    parser.add_argument("--memory-bytes", type=int)
    parser.add_argument("--cpu-seconds", type=int)
    args = parser.parse_args(argv)
    if args.memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (args.memory_bytes, args.memory_bytes))
    if args.cpu_seconds:
        # Five seconds between the signal that says so (SIGXCPU) and the one that doesn't ask.
        resource.setrlimit(resource.RLIMIT_CPU, (args.cpu_seconds, args.cpu_seconds + 5))

    # Libraries print on standard output; the answer has it to itself.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        result, code = introspect(parse_config(args.config.read_bytes(), name=args.config.name)), 0
    except UserError as error:
        result, code = {"error": type(error).__name__, "message": str(error)}, 2
    except MemoryError:
        result, code = {"error": "BadConfigError", "message": TOO_LARGE}, 2
    with answer:
        json.dump(result, answer)
    return code


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
