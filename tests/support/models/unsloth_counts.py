"""What the real get_peft_model of FastLanguageModel and FastModel trains, on full-size models of the meta device.

Its own process: Unsloth patches PEFT, transformers and TRL as it is imported. UNSLOTH_ALLOW_CPU=1 imports the code of
its GPU path without a GPU. Each call runs up to the point where Unsloth hands its configuration to PEFT
(_get_peft_model); there PEFT itself wraps the model and its trainable parameters are counted.

    UNSLOTH_ALLOW_CPU=1 python -m tests.support.models.unsloth_counts < models.json

models.json: [{"config": path, "split": whether experts are linear layers, "calls": [{"unsloth_class": …, "new_model":
whether Unsloth loads it by FastModel, "arguments": {…}}]}]. Prints a line of JSON a call, in order: {"count": …,
"bytes": of the file in fp32} or {"refused": message}.
"""

import copy
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
import peft.utils.transformers_weight_conversion as conversion  # noqa: E402
from peft.tuners.lora import LoraModel  # noqa: E402
from peft.tuners.tuners_utils import _maybe_include_all_linear_layers, check_target_module_exists  # noqa: E402
from unsloth.models import llama, vision  # noqa: E402
from unsloth_zoo.temporary_patches.gpt_oss import GptOssExpertsBnb4bit  # noqa: E402
from unsloth_zoo.training_utils import prepare_model_for_training  # noqa: E402

from tests.support.processes.file_sizes import file_size  # noqa: E402
from tests.support.models.meta_models import build, many_models  # noqa: E402

REWRITTEN = frozenset(conversion._MODEL_TO_CONVERSION_PATTERN)
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError)


class Handed(Exception):
    """Unsloth has handed its configuration to PEFT."""

    def __init__(self, config: peft.LoraConfig):
        self.config = config


def handed(model: Any, config: peft.LoraConfig, *_, **__) -> None:
    raise Handed(config)


# Neither garbage collection nor first weights change a count, and both take long.
torch.nn.Linear.reset_parameters = lambda _: None
llama.gc = vision.gc = SimpleNamespace(collect=lambda: None)
llama._get_peft_model = vision._get_peft_model = handed
create_and_replace = LoraModel._create_and_replace
vision.prepare_model_for_kbit_training = lambda model, **_: model


class Counter:
    """One model, for many calls. PEFT wraps it once for each set of modules that its own matching gives."""

    def __init__(self, config: str, *, split: bool):
        self.config, self.split = config, split
        self.known: dict[Any, dict[str, Any]] = {}
        self.fresh = self._build()
        self.model = copy.deepcopy(self.fresh)
        self.paths = [name for name, _ in self.model.named_modules() if name]

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
            return self._by_peft(stop.config, new_model=new_model)
        except REFUSALS as error:
            return {"refused": f"{type(error).__name__}: {error}"[:300]}
        finally:
            # Unsloth patches this around its call of PEFT, for Gemma 4, and here it doesn't get to take that back.
            LoraModel._create_and_replace = create_and_replace
        raise AssertionError("get_peft_model ended without PEFT")

    def _by_peft(self, config: peft.LoraConfig, *, new_model: bool) -> dict[str, Any]:
        config.init_lora_weights = False
        freezes = new_model and bool(config.modules_to_save)
        key = (self._question(config), freezes)
        if key not in self.known:
            self.known[key] = self._wrap(config, freezes=freezes)
        return self.known[key]

    def _question(self, config: peft.LoraConfig) -> Any:
        """What PEFT's answer depends on: the modules that it matches, where it does not rewrite the configuration."""
        rest = (
            config.use_dora,
            config.ensure_weight_tying,
            tuple(sorted(config.modules_to_save or ())),
            tuple(sorted(config.target_parameters or ())),
            tuple(config.rank_pattern.items()),
        )
        names = config.target_modules
        if self.model.config.model_type in REWRITTEN and not isinstance(names, str):
            return (tuple(sorted(names)), *rest)
        plain = _maybe_include_all_linear_layers(copy.copy(config), self.model)
        return (frozenset(path for path in self.paths if check_target_module_exists(plain, path)), *rest)

    def _wrap(self, config: peft.LoraConfig, *, freezes: bool) -> dict[str, Any]:
        """freezes: FastModel's next step, which decides what of modules_to_save is trained."""
        # Without this PEFT ties no copies of embedding and head on the meta device.
        saves = bool(config.modules_to_save)
        try:
            fresh = copy.deepcopy(self.fresh)
            adapted = peft.get_peft_model(fresh, config, low_cpu_mem_usage=not saves, autocast_adapter_dtype=False)
        except REFUSALS as error:
            return {"refused": f"{type(error).__name__}: {error}"[:300]}
        if freezes:
            prepare_model_for_training(
                adapted, use_gradient_checkpointing=False, use_reentrant=False, patch_modules_to_save=True
            )
        shapes = {name: tuple(tensor.shape) for name, tensor in peft.get_peft_model_state_dict(adapted).items()}
        count = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        return {"count": count, "bytes": file_size(shapes)}


def answers(models: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """An answer a call, model by model."""
    for model in models:
        counter = Counter(model["config"], split=model["split"])
        for call in model["calls"]:
            yield counter.count(**call)
        del counter
        gc.collect()


if __name__ == "__main__":
    with many_models(), answer:
        gc.disable()
        for each in answers(json.load(sys.stdin)):
            answer.write(json.dumps(each) + "\n")
            answer.flush()
