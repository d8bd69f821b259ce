"""Defines a question, which is the input of an estimate, and the adapter of one training set-up on one device."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from rankviz.core.bounds import check_types, few, is_number, named, number, one_of, plain_text, whole
from rankviz.core.cost.setup import Device, Gpu, Grpo, TrainingData, TrainingSetup, card, grpo_of, refuse_bf16
from rankviz.core.cost.stack import compute_dtype
from rankviz.core.lora.config import MAX_RANK, Dtype, LoraConfig, adapter_dtype, lora_alpha, settle_rank
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, quoted
from rankviz.paths import named_in

MAX_USD_PER_HOUR = 1_000_000
ASSUMED_RANK = 32
"""Rank of a question without one: the recommended rank."""
ASSUMED_STEPS = 1_000
"""Optimizer steps of a question without a training length and a number of examples (page, endpoints, command line)."""
MEANT = {
    **dict.fromkeys(("r", "rank", "lora_r"), "ranks=[16]"),
    "max_seq_length": "max_length",
    "load_in_4bit": 'precision="nf4-dq"',
    "load_in_8bit": 'precision="int8"',
    "epochs": "num_train_epochs",
    "example_tokens": "mean_tokens",
    **dict.fromkeys(("batch_size", "per_device_batch_size"), "per_device_train_batch_size"),
}
"""Setting that is meant by another library's name of it."""
ASSUMED_EPOCHS = 1
"""Epochs of a question with a number of examples but no training length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Input of an estimate: one model, some ranks, and all settings that the answer depends on."""

    model_id: str
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Settings of the adapter; its r and lora_alpha are used where `ranks` and `lora_alpha` are None."""
    training: TrainingSetup = field(default_factory=TrainingSetup)
    ranks: tuple[int, ...] | None = None
    """Ranks to estimate. None takes the rank given in `lora`, or else ASSUMED_RANK."""
    lora_alpha: str | None = None
    """Rule for alpha: "r", "2r" or a number as text. None takes the alpha of `lora`."""
    gpu: str | None = None
    """Id or name of a GPU in gpus.json; without a GPU the answer has no time, price or fit."""
    usd_per_hour: float | None = None
    """The user's own price of the GPU; None takes the table's."""

    def __post_init__(self):
        if isinstance(self.model_id, str):
            object.__setattr__(self, "model_id", named_in(self.model_id))
        if is_number(self.lora_alpha):
            object.__setattr__(self, "lora_alpha", str(self.lora_alpha))
        check_types(self)
        settle_rank(self, (ASSUMED_RANK,), "r")

    @classmethod
    def of(cls, model_id: str, ranks: Sequence[int] | int | None = None, **settings: Any) -> "Question":
        """Return the question with these settings, each under its one name: that of its field in LoraConfig (PEFT's
        names), TrainingSetup and Grpo (TRL's), TrainingData or Question. lora_alpha: "r", "2r" or a number. method:
        "grpo" for GRPO with its settings beside it or in a dict `grpo`. Numbers of NumPy are accepted."""
        every = (Grpo, TrainingData, TrainingSetup, LoraConfig, cls)
        homes = {each.name: home for home in every for each in fields(home)}
        for not_flat in ("model_id", "lora", "training", "data", "r"):
            del homes[not_flat]
        settings = {name: _plain(value) for name, value in settings.items()}
        ranks, method, grpo = _plain(ranks), settings.pop("method", None), settings.get("grpo")
        if isinstance(grpo, Grpo):
            grpo = asdict(grpo)
        if isinstance(grpo, Mapping):
            method, settings = method or "grpo", {name: each for name, each in settings.items() if name != "grpo"}
            if both := grpo.keys() & settings.keys():
                raise InvalidSettingError(f"Given twice: {', '.join(sorted(both))}. Give it in grpo or beside it.")
            for name in grpo:
                one_of(name, "A setting of GRPO", [each.name for each in fields(Grpo)])
            settings |= grpo
        if ranks is not None:
            several = isinstance(ranks, Iterable) and not isinstance(ranks, str)
            ranks = tuple(map(_plain, ranks if several else [ranks]))
        settings["ranks"] = ranks
        given: dict[type, dict[str, Any]] = {home: {} for home in homes.values()}
        for name, value in settings.items():
            if name not in homes:
                like = [each for each in homes if len(name) > 2 and name.rstrip("s") in each]
                like = [MEANT[name]] if name in MEANT else like
                hint = f"Did you mean {' or '.join(like)}?" if like else f"The settings are {', '.join(sorted(homes))}."
                raise InvalidSettingError(f"No setting {quoted(name)}. {hint}")
            given[homes[name]][name] = value
        data = TrainingData(**given[TrainingData]) if given[TrainingData] else None
        fixed = [name for name in ("max_length", "mean_tokens", "longest_tokens") if name in settings]
        if made := grpo_of(method or "sft", given[Grpo], fixed):
            given[TrainingSetup]["grpo"] = made
        training = TrainingSetup(data=data, **given[TrainingSetup])
        return cls(model_id=model_id, lora=LoraConfig(**given[LoraConfig]), training=training, **given[cls])

    def lora_at(self, r: int) -> LoraConfig:
        """Return the adapter's settings at one rank."""
        return replace(self.lora, r=r, lora_alpha=lora_alpha(self.lora_alpha, r))

    def with_assumed_length(self) -> tuple["Question", str]:
        """Return the question with a training length, and a sentence on the assumption; the question itself and ""
        where it has a length. Assumed are ASSUMED_EPOCHS or, without a number of examples, ASSUMED_STEPS."""
        data = self.training.data
        if self.training.has_length or (data and data.num_train_epochs is not None):  # epochs without examples: refused
            return self, ""
        assumed, length = {"max_steps": ASSUMED_STEPS}, f"{ASSUMED_STEPS:,} optimizer steps"
        if data is not None and data.examples is not None:
            assumed, length = {"data": replace(data, num_train_epochs=ASSUMED_EPOCHS)}, f"{ASSUMED_EPOCHS} epoch"
        has_time = isinstance(self.gpu, str) and self.gpu and not self.gpu.casefold().startswith("mac-")
        said = f"Time and cost assume {length}: no epochs, steps or tokens were given." if has_time else ""
        return replace(self, training=replace(self.training, **assumed)), said

    def validate(self, gpu: Gpu | None = None) -> None:
        """Raise InvalidSettingError, which says what to change, for an invalid setting. gpu: Row of the field `gpu`."""
        named(self.model_id, "Model")
        if not self.ranks:
            raise InvalidSettingError("No rank is given. Give at least one, such as 16.")
        few(self.ranks, "Ranks", MAX_RANK)
        for r in self.ranks:
            whole(r, "Rank", 1, MAX_RANK)
        plain_text(self.lora_alpha, "Alpha", 40)
        if self.gpu is not None:
            named(self.gpu, "GPU")
        self.lora_at(self.ranks[0]).validate()
        self.training.validate()
        if self.usd_per_hour is not None:
            number(self.usd_per_hour, "The price per hour", 0, MAX_USD_PER_HOUR)
        refuse_bf16(self.training, card(gpu))
        on_mac = gpu is not None and gpu.is_mac
        if self.training.framework == "mlx" and not on_mac:
            raise InvalidSettingError("MLX trains on a Mac. Choose one as GPU, such as mac-32gb, or another framework.")
        setup = self.training
        more = {"modules_to_save": self.lora.modules_to_save, "images": setup.images, "method grpo": setup.grpo}
        if on_mac and (given := [name for name, value in {**more, "gpus": setup.gpus > 1}.items() if value]):
            raise InvalidSettingError(f"MLX LM trains LoRA alone, on text. Leave out {', '.join(given)}.")


def _plain(value: Any) -> Any:
    """Return a number or an array of NumPy, or of a library like it, as Python's number or list."""
    return value.tolist() if hasattr(value, "tolist") else value


def plan_on(model: ModelSpec, lora: LoraConfig, training: TrainingSetup, device: Device) -> AdapterPlan:
    """Return the adapter plan, for any rank and alpha; raise InvalidSettingError where PEFT or Unsloth refuses it."""
    setup = training.without_auto(device)
    return resolve(model, lora, setup.framework, precision=setup.precision, cuda=device.cuda)


def dtype_on(model: ModelSpec, training: TrainingSetup, device: Device) -> Dtype:
    """Return the dtype in which lora_A and lora_B are trained and saved. training: Without "auto"."""
    compute = compute_dtype(model.model_type, training, bf16=device.has_bf16)
    return adapter_dtype(training.framework, training.precision, cuda=device.cuda, compute=compute)


def adapter_bytes_on(plan: AdapterPlan, r: int, training: TrainingSetup, device: Device) -> int:
    """Return the bytes of adapter_model.safetensors at rank r. training: Without "auto"."""
    compute = compute_dtype(plan.model.model_type, training, bf16=device.has_bf16)
    return plan.trained_adapter_bytes(r, training.framework, training.precision, cuda=device.cuda, compute=compute)
