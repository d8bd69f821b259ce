"""Stacks, shapes and memory of the toy."""

from rankviz.core.cost.memory import MemoryTerms
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.shapes import model_shape
from rankviz.core.cost.stack import Stack
from tests.support.runs.toy import ASSUMPTIONS, TOY, adapted

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def stack(framework="peft", use_dora=False, habits=None, **setup):
    fields = {"precision": "bf16", "optim": "adamw_torch", "gradient_checkpointing": "hf", "loss_path": "full"}
    fields |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "max_length": 10}
    setup = TrainingSetup(**{"framework": framework, **fields, **setup})
    return Stack(setup=setup, use_dora=use_dora, assume=ASSUMPTIONS, measured_habits=habits)


def shape_of(model, names=("q_proj", "v_proj")):
    return model_shape(model, adapted(model, *names))


def estimate(model=TOY, r=2, parameters=100, saved=0, usable=None, names=("q_proj", "v_proj"), **more):
    return MemoryTerms(model, shape_of(model, names), stack(**more)).on(usable).at(r, parameters, saved)
