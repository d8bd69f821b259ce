"""Small programs that checks run in a process of their own: `python -m tests.gpu.programs NAME HOME PRECISION ...`.

Each prints one JSON object as its last line.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def plain_loss(home: Path, precision: str, adapter: str = "") -> dict[str, Any]:
    """The held-out loss of the embedded base by transformers alone, with an adapter put on it by PEFT: no Unsloth."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rankviz import dataset
    from rankviz.core.runs.request import SweepRequest
    from rankviz.worker.base import embedded_folder
    from rankviz.worker.device import quantization
    from rankviz.worker.finetune.data import SweepData
    from rankviz.worker.finetune.measure import evaluate

    folder, cuda = embedded_folder(home), torch.cuda.is_available()
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    placed = {"quantization_config": quantization(precision, "bfloat16"), "device_map": {"": 0} if cuda else None}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **placed)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = SweepRequest()
    data = SweepData(dataset.read("phonemes"), tokenizer, asked.training.max_length, asked.held_out_examples)
    autocast = None if precision == "fp32" else "bfloat16"
    found = evaluate(model, data.held_out, when="before", pad_token_id=tokenizer.pad_token_id, autocast=autocast)
    return {"loss": found.loss, "examples": found.examples}


def checkpointing(home: Path, precision: str, max_length: str) -> dict[str, Any]:
    """What stands in torch.utils.checkpoint once Unsloth has attached an adapter for rows of this length."""
    import unsloth  # noqa: F401

    # isort: split
    import torch.utils.checkpoint

    from rankviz.core.cost.question import plan_on
    from rankviz.core.cost.setup import Device
    from rankviz.worker import device
    from rankviz.worker.base import Base, embedded_folder
    from rankviz.worker.device import settle
    from rankviz.worker.finetune.session import attach, load_base
    from rankviz.worker.introspect.layers import layers_of
    from tests.support.runs import questions

    request = questions.run(precision=precision, max_length=int(max_length))
    settings = settle(request.training, cuda=device.has_cuda())
    model, *_ = load_base(Base(name=str(embedded_folder(home)), is_local=True), settings)
    plan = plan_on(layers_of(model.config.to_dict()), request.lora, settings.training, Device(cuda=settings.cuda))
    attach(model, request, plan, settings)
    function = torch.utils.checkpoint.CheckpointFunction
    return {"function": f"{function.__module__}.{function.__name__}", "recorded": settings.effective_checkpointing}


def limited_worker(home: Path, precision: str, share: str, *worker_arguments: str) -> None:
    """The fine-tuning worker, with HOME and run ids as it is given them, and only a share of the card."""
    import torch

    from rankviz.worker.__main__ import main

    torch.cuda.set_per_process_memory_fraction(float(share))
    sys.exit(main(["finetune", *worker_arguments]))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    name, home, precision, *arguments = sys.argv[1:]
    os.chdir(home)  # Unsloth writes its compiled cache into the working directory
    programs = {each.__name__: each for each in (plain_loss, checkpointing, limited_worker)}
    print(json.dumps(programs[name](Path(home), precision, *arguments)))
