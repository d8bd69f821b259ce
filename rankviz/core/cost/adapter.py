"""The adapter that one training set-up makes on one device.

Names reach other modules on a CPU than on a GPU under Unsloth, and with an 8-bit or 4-bit base than with another.
"""

from rankviz.core.cost.device import Device
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec


def plan_on(model: ModelSpec, lora: LoraConfig, training: TrainingSetup, device: Device) -> AdapterPlan:
    """The plan, rank and alpha aside; InvalidSettingError where PEFT or Unsloth refuses."""
    setup = training.without_auto(device)
    return resolve(model, lora, setup.framework, precision=setup.precision, cuda=device.cuda)
