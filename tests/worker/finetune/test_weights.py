"""The progress of loading a base."""

import pytest

from rankviz.core.runs.events import StageProgressed
from rankviz.worker.stages import Stages
from tests.support.models.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.torch


def test_each_tensor_of_a_base_counts_as_it_is_loaded(tmp_path):
    from safetensors import safe_open
    from transformers import LlamaForCausalLM

    from rankviz.worker.finetune.load import weights_followed

    base, events = make_tiny_llama(tmp_path / "base"), []
    with weights_followed(Stages(events.append, every_seconds=0.0)):
        LlamaForCausalLM.from_pretrained(base)
    LlamaForCausalLM.from_pretrained(base)  # of this there is no progress

    with safe_open(base / "model.safetensors", "numpy") as file:
        tensors = len(file.keys())
    progress = [event for event in events if isinstance(event, StageProgressed)]
    assert [(done, tensors, "tensors") for done in range(tensors)] == [(t.done, t.total, t.unit) for t in progress]
