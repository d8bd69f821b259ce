"""What the real get_peft_model of FastLanguageModel and FastModel trains, on full-size models of the meta device.

Its own process: Unsloth patches PEFT, transformers and TRL as it is imported. UNSLOTH_ALLOW_CPU=1 imports the code of
its GPU path without a GPU. Each call runs up to the point where Unsloth hands its configuration to PEFT
(_get_peft_model); there PEFT itself wraps the model and its trainable parameters are counted.

    UNSLOTH_ALLOW_CPU=1 python -m tests.support.unsloth_counts < models.json

models.json: [{"config": path, "split": whether experts are linear layers, "calls": [{"unsloth_class": …, "new_model":
whether Unsloth loads it by FastModel, "arguments": {…}}]}]. Prints a line of JSON a call, in order: {"count": …} or
{"refused": message}.
"""

import gc
import json
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import unsloth  # noqa: E402, I001
import peft  # noqa: E402
import torch  # noqa: E402
from unsloth.models import llama, vision  # noqa: E402
from unsloth_zoo.temporary_patches.gpt_oss import GptOssExpertsBnb4bit  # noqa: E402

from tests.support.meta_models import build, many_models  # noqa: E402

REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError)


class Handed(Exception):
    """Unsloth has handed its configuration to PEFT."""

    def __init__(self, config: peft.LoraConfig):
        self.config = config


def handed(model: Any, config: peft.LoraConfig, *_, **__) -> None:
    raise Handed(config)


# Garbage collection takes longer than all the rest, and nothing here holds weights.
llama.gc = vision.gc = SimpleNamespace(collect=lambda: None)
llama._get_peft_model = vision._get_peft_model = handed
vision.prepare_model_for_kbit_training = lambda model, **_: model


class Counter:
    """One model, for many calls. PEFT's answer to a configuration is kept, since different calls come to the same."""

    def __init__(self, config: str, *, split: bool):
        self.config, self.split = config, split
        self.known: dict[str, dict[str, Any]] = {}
        self.model = self._build()

    def _build(self) -> Any:
        model = build(self.config)
        if self.split:
            with torch.device("meta"):
                for name, _ in list(model.named_modules()):
                    if name.endswith(".mlp.experts"):
                        model.set_submodule(name, GptOssExpertsBnb4bit(model.config))
        model.max_seq_length = 2048
        model._saved_temp_tokenizer = None
        return model

    def count(self, unsloth_class: str, new_model: bool, arguments: dict[str, Any]) -> dict[str, Any]:
        """Trainable parameters of one call, or why Unsloth or PEFT refuses it."""
        os.environ["UNSLOTH_USE_NEW_MODEL"] = str(int(new_model))
        try:
            getattr(unsloth, unsloth_class).get_peft_model(self.model, use_gradient_checkpointing=False, **arguments)
        except Handed as stop:
            return self._by_peft(stop.config)
        except REFUSALS as error:
            return {"refused": f"{type(error).__name__}: {error}"[:300]}
        raise AssertionError("get_peft_model ended without PEFT")

    def _by_peft(self, config: peft.LoraConfig) -> dict[str, Any]:
        config.init_lora_weights = False
        key = repr(sorted((name, str(value)) for name, value in config.to_dict().items()))
        if key not in self.known:
            self.known[key] = self._wrap(config)
        return self.known[key]

    def _wrap(self, config: peft.LoraConfig) -> dict[str, Any]:
        try:
            adapted = peft.get_peft_model(self.model, config, low_cpu_mem_usage=True)
        except REFUSALS as error:
            self.model = self._build()
            return {"refused": f"{type(error).__name__}: {error}"[:300]}
        count = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        self.model = adapted.unload()
        del self.model.peft_config
        return {"count": count}


def answers(models: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """An answer a call, model by model."""
    for place, model in enumerate(models):
        counter = Counter(model["config"], split=model["split"])
        for call in model["calls"]:
            yield counter.count(**call)
        del counter
        if place % 8 == 7:
            gc.collect()


if __name__ == "__main__":
    with many_models(), answer:
        for each in answers(json.load(sys.stdin)):
            answer.write(json.dumps(each) + "\n")
            answer.flush()
