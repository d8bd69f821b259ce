"""Runs training steps of the real Unsloth on the simulated card: its FastLanguageModel loads and adapts the model, its
kernels, checkpointing and loss run.

Import it after `unsloth_import.import_unsloth`. Replaced is what would need weights or a tokenizer: the model is built
from its config on the meta device and then filled with FakeTensors. Rows are all as long as max_length and every token
is a target, but for the last of each row. Two optimizer steps, each of at most two micro-steps.

Not covered: padding-free batches, xformers (absent, so that attention is torch's own), families that go through
FastModel, and how a checkpoint's load leaves blocks half used.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch._subclasses.fake_tensor import FakeTensorMode
from unsloth import FastLanguageModel
from unsloth.models import llama

from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.worker.simulate.device import Card
from rankviz.worker.simulate.fakes import as_on_a_card
from rankviz.worker.simulate.step import Simulated, _materialize, _Run
from rankviz.worker.simulate.tracker import Tracker
from rankviz.worker.simulate.unsloth_import import LAUNCHES

SIZED = ("unsloth_zoo", "unsloth")
"""Namespaces of operators that allocate inside what PyTorch does not look into."""


class UnslothTracker(Tracker):
    """Also runs the bodies of Unsloth's opaque operators, whose fake answers leave out what they allocate."""

    def __init__(self, card: Card):
        super().__init__(card)
        self.opaque: Counter[str] = Counter()
        self.targets = 0
        """Rows with a label, as `nonzero` finds them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.nonzero.default:
            with self:
                return torch.empty((self.targets, 1), dtype=torch.long, device=args[0].device)
        body = _bodies().get(func.name().removesuffix(".default")) if func.namespace in SIZED else None
        if body is None:
            return super().__torch_dispatch__(func, types, args, kwargs)
        self.opaque[func.name()] += 1
        with self:
            return body(*args, **(kwargs or {}))


def _bodies() -> Mapping[str, Callable[..., Any]]:
    return {name: each._init_fn for name, each in OPDEFS.items()}


class UnslothRun(_Run):
    """One simulated training."""

    def run(self) -> Simulated:
        allocator = self.card.allocator
        with FakeTensorMode(allow_non_fake_inputs=True), UnslothTracker(self.card) as tracker:
            tracker.answer = self._answer
            self.tracker = tracker
            base, tokenizer = self._load()
            loaded = allocator.allocated
            model = self._attach(base)
            static = allocator.allocated
            LAUNCHES.clear()
            moments = self._train(model)
            trainable = sum(each.numel() for each in model.parameters() if each.requires_grad)
            return Simulated(
                depth=self.depth,
                loaded=loaded,
                static=static,
                moments=moments,
                reserved=allocator.peak_reserved,
                kernels=dict(tracker.attention.kernels),
                trainable_parameters=trainable,
                workspaces=tracker.workspaces,
            )

    def _load(self) -> tuple[Any, Any]:
        llama.AutoModelForCausalLM = SimpleNamespace(from_pretrained=self._from_pretrained)
        llama.load_correct_tokenizer = lambda **_: _tokenizer()
        llama.check_tokenizer = lambda tokenizer, **_: tokenizer
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(self.config), "utf-8")
            return FastLanguageModel.from_pretrained(
                folder,
                max_seq_length=self.training.max_length,
                dtype=self.dtype,
                load_in_4bit=self.training.quantized,
                local_files_only=True,
                use_exact_model_name=True,
            )

    def _from_pretrained(self, folder: str, **asked: Any) -> Any:
        model = self.build()
        model.config.max_position_embeddings = asked.get("max_position_embeddings") or model.config.max_position_embeddings
        if "quantization_config" in asked:
            model.config.quantization_config = asked["quantization_config"]
            model.is_loaded_in_4bit = True
        _materialize(model)
        return model.eval()

    def _attach(self, model: Any) -> Any:
        lora = self.lora
        model = FastLanguageModel.get_peft_model(
            model,
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            target_modules=list(lora.target_modules),
            use_gradient_checkpointing={"unsloth": "unsloth", "hf": True, "none": False}[self.training.gradient_checkpointing],
        )
        # As UnslothTrainer does before it trains.
        model.for_training()
        return model.train()

    def _loss(self, model: Any) -> tuple[torch.Tensor, Any]:
        rows, length = self.training.per_device_train_batch_size, self.training.max_length
        ids = torch.zeros((rows, length), dtype=torch.long, device="cuda")
        labels = torch.zeros((rows, length), dtype=torch.long, device="cuda")
        self.tracker.targets = rows * (length - 1)
        count = torch.full((), rows * (length - 1) * self.training.gradient_accumulation_steps, device="cuda")
        with torch.autocast("cuda", self.compute if self.training.quantized else self.dtype):
            output = model(input_ids=ids, labels=labels, num_items_in_batch=count)
        return output.loss, None


def _tokenizer() -> Any:
    """Four words."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = ("<s>", "</s>", "<pad>", "<unk>")
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=words[0], eos_token=words[1], pad_token=words[2], unk_token=words[3]
    )
