"""Training steps of the real Unsloth on the simulated card: its FastLanguageModel, kernels, checkpointing and loss.

Import it after `unsloth_card.import_unsloth`; `make truth` uses it. Only what would need weights or a tokenizer is
replaced. All rows have max_length tokens, and every token but the last of each row is a target. Not
covered: padding-free batches, xformers, families that go through FastModel, and memory blocks that loading a checkpoint
leaves half used.
"""

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoTokenizer
from unsloth import FastLanguageModel
from unsloth.kernels import utils
from unsloth.models import llama
from unsloth.utils import attention_dispatch
from unsloth_zoo import gradient_checkpointing
from unsloth_zoo.fused_losses import fused_linear

from benchmarks.unsloth_card import LAUNCHES, count_launches
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import Device
from rankviz.core.lora.targets import OWN_FAMILIES
from rankviz.core.probe import Simulated
from rankviz.errors import UserError
from rankviz.worker.finetune.training import unsloth_arguments
from rankviz.worker.introspect.layers import layers_of
from rankviz.worker.probe import write_tokenizer
from rankviz.worker.simulate.card import SimulatedCard
from rankviz.worker.simulate.step import SimulatedRun, materialize
from rankviz.worker.simulate.tracker import Tracker, as_on_a_card, kernel_for

ADDED_BYTES = 2**23
"""Most bytes that loading may leave on the card besides the weights."""
FAMILIES = tuple(each for each in OWN_FAMILIES if each != "gemma2")
"""Families that can be simulated: not Gemma 2, whose attention needs torch.compile, nor those that use FastModel."""
BACKENDS = {"math": 0, "flash": 1, "efficient": 2}
"""Numbers of torch.nn.attention.SDPBackend by kernel."""


class UnslothTracker(Tracker):
    """Tracker that also runs the bodies of Unsloth's custom operators; their fake versions do not show allocations."""

    def __init__(self, card: SimulatedCard, answer: Callable[[torch.Tensor], Any], targets: int):
        super().__init__(card, answer)
        self._targets = targets
        self._bodies = {name: each._init_fn for name, each in OPDEFS.items() if name.startswith("unsloth")}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.nonzero.default:
            # The loss looks for the rows that have a label.
            with self:
                return torch.empty((self._targets, 1), dtype=torch.long, device=args[0].device)
        body = self._bodies.get(func.name())
        if body is None:
            return super().__torch_dispatch__(func, types, args, kwargs)
        with self:
            return body(*args, **(kwargs or {}))


class UnslothRun(SimulatedRun):
    """Two optimizer steps of Unsloth's FastLanguageModel, with its kernels, checkpointing and loss."""

    def run(self) -> Simulated:
        """Run the steps, and return the bytes held."""
        if self.config["model_type"] not in FAMILIES:
            raise UserError(f"Unsloth's training step is simulated for {', '.join(FAMILIES)}, not for this model.")
        torch._fused_sdp_choice = _choice(self.card)
        as_on_a_card()
        count_launches()
        with FakeTensorMode(allow_non_fake_inputs=True):
            return self._run()

    def _run(self) -> Simulated:
        _forget(self.compute)
        targets = self.training.tokens_per_micro_step - self.training.per_device_train_batch_size
        with UnslothTracker(self.card, self._answer, targets) as tracker:
            run = self.trained(tracker, self._load())
        self._check(run)
        return run

    def _load(self) -> Any:
        llama.AutoModelForCausalLM = SimpleNamespace(from_pretrained=self._from_pretrained)
        llama.check_tokenizer = lambda tokenizer, **_: tokenizer
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(self.config), "utf-8")
            write_tokenizer(Path(folder))
            tokenizer = AutoTokenizer.from_pretrained(folder)
            llama.load_correct_tokenizer = lambda **_: tokenizer
            model, _ = FastLanguageModel.from_pretrained(
                folder,
                max_seq_length=self.training.max_length,
                dtype=self.dtype,
                load_in_4bit=self.training.quantized,
                local_files_only=True,
                use_exact_model_name=True,
            )
        return model

    def _from_pretrained(self, _folder: str, **options: Any) -> Any:
        model = self.build()
        most = model.config.max_position_embeddings
        model.config.max_position_embeddings = options.get("max_position_embeddings") or most
        if "quantization_config" in options:
            model.config.quantization_config, model.is_loaded_in_4bit = options["quantization_config"], True
        materialize(model)
        self._weights = self.card.allocator.allocated
        return model.eval()

    def _attach(self, model: Any) -> Any:
        lora, training = self.lora, self.training
        plan = plan_on(layers_of(self.config), lora, training, Device(cuda=True))
        checkpointing = {"unsloth": "unsloth", "hf": True, "none": False}[training.gradient_checkpointing]
        model = FastLanguageModel.get_peft_model(
            model,
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            use_rslora=lora.use_rslora,
            use_gradient_checkpointing=checkpointing,
            **unsloth_arguments(lora, plan),
        )
        LAUNCHES.clear()
        self._embedding = model.get_input_embeddings().parameters()
        model.for_training()  # as its Trainer does
        return model.train()

    def _loss(self, model: Any) -> torch.Tensor:
        training = self.training
        shape = (training.per_device_train_batch_size, training.max_length)
        ids, labels = (torch.zeros(shape, dtype=torch.long, device="cuda") for _ in range(2))
        count = torch.zeros((), dtype=torch.long, device="cuda")
        with torch.autocast("cuda", self.compute):
            return model(input_ids=ids, labels=labels, num_items_in_batch=count).loss

    def _check(self, run: Simulated) -> None:
        """Raise RuntimeError where other code ran than in training on the card, since the bytes would be wrong."""
        training, calls = self.training, fused_linear.CALLS
        micro_steps = 1 + min(2, training.gradient_accumulation_steps)
        passes = 1 if training.gradient_checkpointing == "none" else 2
        blocks = self.depth * passes * micro_steps
        on_host = next(iter(self._embedding)).device.type == "cpu"
        for right, sentence in (
            (on_host or abs(run.loaded - self._weights) < ADDED_BYTES, "The loaded base is not the checkpoint."),
            (calls["ce"] == micro_steps and not calls["torch"], "The loss ran without Unsloth's kernels."),
            (sum(run.kernels.values()) == blocks, "Not every block ran attention, or not as often as it should."),
            ("math" not in run.kernels, "Attention ran without a kernel of its own."),
            (LAUNCHES["_rms_layernorm_backward"] >= self.depth * micro_steps, "Blocks ran without Unsloth's kernels."),
        ):
            if not right:
                raise RuntimeError(f"{sentence} {self._weights} bytes, {run}, {calls}, {LAUNCHES}")


def _choice(card: SimulatedCard) -> Callable[..., int]:
    """Return a function that replaces torch._fused_sdp_choice and answers as the card would."""

    def choose(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False):
        more = {"masked": attn_mask is not None, "enable_gqa": enable_gqa, "dropout": dropout_p > 0}
        return BACKENDS[kernel_for(card, query, key, value, **more)]

    return choose


def _forget(dtype: torch.dtype) -> None:
    """Clear what an earlier run in this process left in Unsloth's modules, such as tensors of another card."""
    gradient_checkpointing.initialize_unsloth_gradient_checkpointing(dtype)
    utils._SCRATCH.clear()
    fused_linear._TRITON_BROKEN.clear()
    fused_linear.CALLS.update(dict.fromkeys(fused_linear.CALLS, 0))
    for module in (fused_linear, attention_dispatch):
        for each in vars(module).values():
            if isinstance(each, functools._lru_cache_wrapper):
                each.cache_clear()
