"""The adapter that one training set-up makes on one device.

Names reach other modules on a CPU than on a GPU under Unsloth, and with an 8-bit or 4-bit base than with another.
"""

from rankviz.core.cost.device import Device
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.unsloth import compute_dtype
from rankviz.core.lora.config import Dtype, LoraConfig, adapter_dtype
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec


def plan_on(model: ModelSpec, lora: LoraConfig, training: TrainingSetup, device: Device) -> AdapterPlan:
    """The plan, rank and alpha aside; InvalidSettingError where PEFT or Unsloth refuses."""
    setup = training.without_auto(device)
    return resolve(model, lora, setup.framework, precision=setup.precision, cuda=device.cuda)


def dtype_on(model: ModelSpec, training: TrainingSetup, device: Device) -> Dtype:
    """Dtype that lora_A and lora_B are trained and saved in. training: settled."""
    compute = compute_dtype(model.model_type, training, bf16=device.has_bf16)
    return adapter_dtype(training.framework, training.precision, cuda=device.cuda, compute=compute)


def file_bytes_on(plan: AdapterPlan, r: int, training: TrainingSetup, device: Device) -> int:
    """Bytes of adapter_model.safetensors. training: settled."""
    compute = compute_dtype(plan.model.model_type, training, bf16=device.has_bf16)
    return plan.trained_bytes(r, training.framework, training.precision, cuda=device.cuda, compute=compute)
