"""What a simulated step says of itself."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.children import Children
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.probe import ProbeQuestion, Simulated, SimulatedProbe
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

RUN = {
    "depth": 2,
    "loaded": 2**30,
    "static": 2**30 + 2**20,
    "moments": {"forward": 3 * 2**30, "optimizer": 2 * 2**30},
    "reserved": 4 * 2**30,
    "kernels": {"math": 8},
    "trainable_parameters": 100,
    "workspaces": 0,
}


def test_a_simulated_probe_says_that_nothing_was_measured_and_how_far_off_simulations_are():
    probe = SimulatedProbe(
        model_id="a/b",
        gpu="T4",
        lora=LoraConfig(),
        training=TrainingSetup(framework="trl"),
        padded=False,
        run=Simulated(**RUN),
        estimate=Range(1.0, 2.0, 3.0),
        mean_error=0.003,
        worst_error=0.016,
    )

    said, value = probe.sentences(), probe.as_json()

    assert said[0].startswith("Nothing was measured")
    assert "0.3 % off on average, 1.6 % at most" in said[1]
    assert "forward. Attention kernel: math" in said[2]
    assert (3 * 2**30, 4 * 2**30, "forward") == (value["allocated_bytes"], value["reserved_bytes"], value["moment"])
    assert {"low": 1, "expected": 2, "high": 3} == value["estimate_bytes"]


def test_beside_padded_batches_stands_the_estimate_of_padded_batches(monkeypatch):
    monkeypatch.setattr(Children, "ask", lambda *_args, **_more: RUN)
    more = {"gradient_checkpointing": "auto", "per_device_train_batch_size": 2, "max_length": 4096}
    setup = TrainingSetup(framework="trl", precision="nf4-dq", **more)
    question = ProbeQuestion(model_id="meta-llama/Llama-3.1-8B", lora=LoraConfig(r=16), training=setup)
    plain, padded = (Api().probes.simulate(question, "T4", padded=each).estimate.expected for each in (False, True))

    assert padded < plain / 2  # a mask repeats keys, and then no math kernel runs
    with pytest.raises(InvalidSettingError, match="A batch of one example has no padding"):
        alone = replace(setup, per_device_train_batch_size=1)
        Api().probes.simulate(replace(question, training=alone), "T4", padded=True)
