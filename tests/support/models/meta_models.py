"""Catalogue models as transformers builds them, on the meta device. Imports torch: only for tests marked torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peft  # noqa: F401
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

transformers.logging.set_verbosity_error()


def build(config: str | Path):
    """The model of a config.json: the whole model for *.full.json and what has no text class, else the text model."""
    parsed = AutoConfig.from_pretrained(config)
    # PEFT would look a base with a name up on the Hub, to see whether its vocabulary has grown.
    parsed._name_or_path = ""
    whole = ".full." in str(config) or type(parsed) not in AutoModelForCausalLM._model_mapping
    factory = AutoModelForImageTextToText if whole else AutoModelForCausalLM
    with torch.device("meta"):
        return factory.from_config(parsed)


@contextmanager
def many_models() -> Iterator[None]:
    """Saves time over a thousand models: no search through the libraries for garbage. Weights are initialised all the
    same, since transformers ties embeddings there."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
