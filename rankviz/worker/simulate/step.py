"""Runs training steps of a real model on the simulated card, and returns the bytes held at each moment of a step.
Uses transformers' classes, bitsandbytes' 4-bit layers, PEFT's adapters, and TRL's fused loss or transformers' own. The
model has the first `depth` blocks of its config.json and no weights. All rows have max_length tokens, and every token
is a target. Not covered: evaluation, and memory blocks that loading a checkpoint leaves half used."""

import gc
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import Device, Gpu, TrainingSetup
from rankviz.core.cost.stack import compute_dtype
from rankviz.core.lora.config import LoraConfig, adapter_dtype, saved_dtype
from rankviz.core.model.spec import ModelSpec, periods
from rankviz.core.probe import Simulated, fit
from rankviz.errors import UserError
from rankviz.worker.device import quantization
from rankviz.worker.finetune.training import with_peft_adapter
from rankviz.worker.introspect.layers import build, cut_config, layers_of
from rankviz.worker.simulate.card import become
from rankviz.worker.simulate.tracker import Tracker, as_on_a_card

MOMENTS = ("forward", "loss backward", "backward of the last blocks", "backward of the first blocks", "optimizer")
"""Moments of a step in order. The bytes at each moment are a linear function of the number of blocks."""
FORWARD, LOSS, LAST, FIRST, OPTIMIZER = MOMENTS
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BLOCKWISE_LEAST = 4096
"""Elements of a tensor below which bitsandbytes keeps its state in fp32 (optim/optimizer.py, min_8bit_size)."""


class SimulatedRun:
    """Two optimizer steps of a model's first `depth` blocks on one card, as TRL or the PEFT script of an export runs
    them. The first has one micro-step, the second has two where gradients are accumulated."""

    def __init__(
        self,
        config: Mapping[str, Any],
        lora: LoraConfig,
        training: TrainingSetup,
        gpu: Gpu,
        *,
        depth: int,
        split: int = 1,
    ):
        """config: the whole model's. split: number of first blocks, whose backward pass is a moment by itself."""
        self.config, self.depth, self.split = cut_config(config, depth), depth, split
        self.lora, self.training, self.card = lora, training, become(gpu)
        self.compute_dtype = compute_dtype(self.config["model_type"], training, bf16=self.card.supports_bf16)
        self.compute = DTYPES[self.compute_dtype]
        self.dtype = DTYPES.get(training.precision, self.compute)
        self.fused_loss = training.framework == "trl"
        self.prepares = training.framework == "peft" and training.quantized
        """True where the program calls prepare_model_for_kbit_training."""
        self.held: Any = None
        """Part of the model's output that the program holds until the end of the backward pass."""

    def run(self) -> Simulated:
        """Run the steps, and return the bytes of memory held at each moment."""
        as_on_a_card()
        model = self.build()
        gc.collect()
        gc.freeze()  # what is imported need not be looked through again
        with FakeTensorMode(allow_non_fake_inputs=True), Tracker(self.card, self._answer) as tracker:
            materialize(model)
            return self.trained(tracker, model)

    def trained(self, tracker: Tracker, model: Any) -> Simulated:
        """Attach the adapter to a loaded model, run the steps and return the bytes held."""
        allocator = self.card.allocator
        loaded = allocator.allocated
        model = self._attach(model)
        gc.collect()
        return Simulated(
            depth=self.depth,
            loaded=loaded,
            static=allocator.allocated,
            moments=self._train(model),
            reserved=allocator.peak_reserved,
            kernels=dict(tracker.kernels),
            trainable_parameters=sum(each.numel() for each in model.parameters() if each.requires_grad),
        )

    def _answer(self, tensor: torch.Tensor) -> Any:
        """Return a value where library code reads it from a tensor: whether a whole mask is set, AdamW's number of
        steps, whether OPT drops a block. Raise UserError for anything else."""
        if tensor.fake_device.type == "cpu":
            return False if tensor.dtype == torch.bool else 1.0
        if tensor.dtype == torch.bool:
            return True
        raise UserError("This model's code looks at the values of its data, so it cannot be simulated.")

    def build(self) -> Any:
        """Build the model on the meta device, quantized as transformers does where requested."""
        from transformers.quantizers.auto import AutoHfQuantizer

        training = self.training
        # None leaves it to transformers: SDPA, or eager where the architecture has no other.
        attention = "eager" if training.attn_implementation == "eager" else None
        model = build(self.config, attn_implementation=attention, dtype=self.dtype)
        if any("Mamba" in type(module).__name__ for module in model.modules()):
            raise UserError("Mamba's kernels cannot be simulated, and the code without them takes many times as much.")
        if training.quantized:
            config = quantization(training.precision, str(self.compute).removeprefix("torch."))
            quantizer = AutoHfQuantizer.from_config(config, pre_quantized=False)
            with unset_fake_temporarily():  # on the meta device, and no FakeTensor becomes a Params4bit
                quantizer._process_model_before_weight_loading(model, device_map={"": 0})
                quantizer._process_model_after_weight_loading(model)
            model.hf_quantizer, model.is_quantized = quantizer, True
        model.requires_grad_(False)
        return model.train()

    def _attach(self, model: Any) -> Any:
        from peft import prepare_model_for_kbit_training

        checkpoints = self.training.gradient_checkpointing != "none"
        if self.prepares:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpoints)
        plan = plan_on(layers_of(self.config), self.lora, self.training, Device(cuda=True))
        model = with_peft_adapter(model, self.lora, plan)
        if checkpoints:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        program = self.training.framework, self.training.precision
        factors = DTYPES[adapter_dtype(*program, compute=self.compute_dtype)]
        copies = DTYPES[saved_dtype(*program, compute=self.compute_dtype)]
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(factors if "lora_" in name else copies)
        if self.fused_loss:
            from trl.trainer.utils import add_fused_lm_head

            whole = model.get_base_model()
            if whole.base_model is whole:
                raise UserError(f"TRL's loss needs a model inside {type(whole).__name__}, and transformers names none.")
            add_fused_lm_head(whole, outputs=("log_probs", "entropy", "is_top1"))
        return model.train()

    def _train(self, model: Any) -> dict[str, int]:
        training, allocator = self.training, self.card.allocator
        trained = [each for each in model.parameters() if each.requires_grad]
        optimizer = OPTIMIZERS.get(training.optim, _Blockwise)(trained, foreach=True)  # its default on CUDA
        peaks = dict.fromkeys(MOMENTS, 0)
        allocator.reset_peaks()
        lists = [each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == self.depth]
        blocks = max(lists, key=lambda each: sum(p.numel() for p in each.parameters()))  # the decoder's

        def note(moment: str) -> None:
            peaks[moment] = max(peaks[moment], allocator.peak_allocated)
            allocator.peak_allocated = allocator.allocated

        def watch(moment: str, _module: Any, _args: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad and torch._C._current_autograd_node() is None:
                hidden.register_hook(lambda gradient: note(moment))

        # What ends where a block's backward pass begins; where both are one block, the loss.
        for number, moment in {self.split - 1: LAST, len(blocks) - 1: LOSS}.items():
            blocks[number].register_forward_hook(partial(watch, moment))
        for micro_steps in (1, min(2, training.gradient_accumulation_steps)):
            for _ in range(micro_steps):
                loss = self._loss(model)
                note(FORWARD)
                loss.backward()
                self.held = loss = None
                note(FIRST)
            torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
            optimizer.step()
            note(OPTIMIZER)
            for each in trained:
                each.grad = None
        return peaks

    def _loss(self, model: Any) -> torch.Tensor:
        shape = (self.training.per_device_train_batch_size, self.training.max_length)
        batch = {name: torch.zeros(shape, dtype=torch.long, device="cuda") for name in ("input_ids", "labels")}
        dtype = self.compute if self.training.quantized else self.dtype
        with torch.autocast("cuda", dtype) if dtype != torch.float32 else nullcontext():
            if self.fused_loss:
                output = model(**batch, fused_lm_head=True)
                return -output.log_probs.sum() / batch["labels"].numel()
            return model(**batch, use_cache=False).loss


def materialize(model: Any) -> None:
    """Move every parameter and buffer from the meta device to the card, in the model's order; tied ones stay tied."""
    from bitsandbytes.nn import Linear4bit

    made: dict[int, Any] = {}
    for module in model.modules():
        four_bit = isinstance(module, Linear4bit)
        for name, old in list(module._parameters.items()):
            if old is None:
                continue
            if id(old) not in made:
                if four_bit and name == "weight":
                    made[id(old)] = _packed(module)
                else:
                    empty = torch.empty(old.shape, dtype=old.dtype, device="cuda")
                    made[id(old)] = nn.Parameter(empty, requires_grad=False)
            module._parameters[name] = made[id(old)]
        for name, old in list(module._buffers.items()):
            if old is not None:
                module._buffers[name] = torch.empty(old.shape, dtype=old.dtype, device="cuda")
        if getattr(module, "rope_type", None) in ("dynamic", "longrope"):
            # Which angles these take depends on the positions; how many doesn't.
            module.rope_type = "default"


def _packed(linear: Any) -> nn.Parameter:
    """Return a weight as bitsandbytes stores it: two numbers per byte and a scale per 64, which double quantization
    packs too. The unpacked weight is on the card meanwhile, so that later weights fill the room that it leaves."""
    from bitsandbytes.functional import QuantState

    def on_card(count: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(count, dtype=dtype, device="cuda")

    old, numbers = linear.weight, linear.out_features * linear.in_features
    scales, nested = -(-numbers // 64), old.compress_statistics
    packed_from = on_card(numbers, linear.compute_dtype)
    maxima = on_card(scales, torch.float32)
    weight = nn.Parameter(torch.empty(((numbers + 1) // 2, 1), dtype=torch.uint8, device="cuda"), requires_grad=False)
    state = {"code": on_card(16, torch.float32), "blocksize": 64, "quant_type": old.quant_type}
    if nested:
        second = QuantState(
            absmax=on_card(-(-scales // 256), torch.float32),
            code=on_card(256, torch.float32),
            blocksize=256,
            dtype=torch.float32,
        )
        maxima = on_card(scales, torch.uint8)
        state |= {"state2": second, "offset": on_card(1, torch.float32)[0]}
    state["absmax"] = maxima
    del packed_from
    shape = torch.Size((linear.out_features, linear.in_features))
    weight.quant_state = linear.quant_state = QuantState(shape=shape, dtype=linear.compute_dtype, **state)
    weight.compress_statistics, weight.quant_type, weight.quant_storage = nested, old.quant_type, torch.uint8
    weight.blocksize, weight.bnb_quantized = 64, True
    return weight


class _Blockwise:
    """State of bitsandbytes' 8-bit AdamW, whose kernels work in place."""

    def __init__(self, trained: list[nn.Parameter], foreach: bool):
        self._trained = trained
        self._states: list[torch.Tensor] = []

    def step(self) -> None:
        if self._states:
            return
        with torch.no_grad():
            self._states += [torch.empty(256, dtype=torch.float32, device="cuda") for _ in range(2)]
            for each in (each for each in self._trained for _ in range(2)):
                small = each.numel() < BLOCKWISE_LEAST
                self._states.append(torch.zeros_like(each, dtype=torch.float32 if small else torch.uint8))
                if not small:
                    self._states.append(torch.zeros(-(-each.numel() // 256), dtype=torch.float32, device="cuda"))


OPTIMIZERS = {"adamw_torch": torch.optim.AdamW, "sgd": torch.optim.SGD}


LEAST_BLOCKS = 3
APART = 4  # least blocks between the two depths, so that memory left unused at the end of a block matters less


def simulate_whole(
    config: Mapping[str, Any],
    model: ModelSpec,
    lora: LoraConfig,
    training: TrainingSetup,
    gpu: Gpu,
    *,
    full: bool = False,
    kind: type[SimulatedRun] = SimulatedRun,
) -> Simulated:
    """Simulate the whole model from two depths, since bytes at each moment of a step grow linearly with depth
    (core.probe); run it whole where that is less work, or where `full`."""
    pattern = periods(model)
    # Whole periods below the whole model, a few blocks apart.
    low = max(pattern.prefix + pattern.period, pattern.prefix + 2, LEAST_BLOCKS)
    low += (pattern.blocks - low) % pattern.period
    high = low + pattern.period * -(-APART // pattern.period)
    depths = (pattern.blocks,) if full or low + high >= pattern.blocks else (low, high)
    runs = [kind(config, lora, training, gpu, depth=d, split=pattern.prefix + 1).run() for d in depths]
    if len(runs) == 1:
        return runs[0]

    def at(values: list[int]) -> int:
        return round(fit(depths, values, pattern.blocks)[-1])

    kernels = {name for run in runs for name in run.kernels}
    moments = {name: at([run.moments[name] for run in runs]) for name in runs[0].moments}
    return replace(
        runs[-1],
        depth=pattern.blocks,
        loaded=at([run.loaded for run in runs]),
        static=at([run.static for run in runs]),
        moments=moments,
        # What is reserved beyond the peak is no line: the deeper model's.
        reserved=max(moments.values()) + runs[-1].reserved - runs[-1].allocated,
        kernels={name: at([run.kernels.get(name, 0) for run in runs]) for name in kernels},
        trainable_parameters=at([run.trainable_parameters for run in runs]),
    )
