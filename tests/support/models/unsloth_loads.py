"""What the real from_pretrained of Unsloth loads of tiny checkpoints, and what its get_peft_model trains of them.

A process of its own: Unsloth patches PEFT, transformers and TRL as it is imported. UNSLOTH_ALLOW_CPU=1 imports the code
of its GPU path without a GPU; what it asks of a card is stood in for. Each load is a fork, so that none sees what
another has patched.

    UNSLOTH_ALLOW_CPU=1 HF_HUB_OFFLINE=1 python -m tests.support.models.unsloth_loads < loads.json

loads.json: [{"folder": path, "from_pretrained": {…}, "get_peft_model": [{…}]}]. Prints a line of JSON a load, in order:
{"parameters": {name: [class, dtype, bytes]}, "trainable": [count or message]} or {"refused": message}.
"""

import gc
import json
import os
import sys
import traceback
from typing import Any

answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import unsloth  # noqa: E402, I001
import torch  # noqa: E402
from types import SimpleNamespace  # noqa: E402

GIB = 2**30


def stand_in() -> None:
    """A card of 80 GiB, with nothing on it."""
    card = SimpleNamespace(total_memory=80 * GIB, name="card", major=8, minor=0, multi_processor_count=108)
    torch.cuda.get_device_capability = lambda *_: (8, 0)
    torch.cuda.get_device_properties = lambda *_: card
    torch.cuda.mem_get_info = lambda *_: (80 * GIB, 80 * GIB)
    torch.cuda.current_device = lambda: 0
    torch.cuda.empty_cache = torch.cuda.synchronize = lambda *_: None
    torch.cuda.memory_allocated = lambda *_: 0
    answers = {
        "get_device_stats": lambda *_: ("card", "", 80.0),
        "is_bfloat16_supported": lambda *_: True,
        "get_current_device": lambda: "cpu",
        "SUPPORTS_BFLOAT16": True,
        "ALLOW_BITSANDBYTES": True,
    }
    for module in [each for name, each in sys.modules.items() if name.startswith("unsloth.models.")]:
        for name, value in answers.items():
            if hasattr(module, name):
                setattr(module, name, value)


def parameter_bytes(parameter: Any) -> int:
    """Of the data, and of the maxima that a quantized parameter comes with."""
    total = parameter.numel() * parameter.element_size()
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        total += state.absmax.numel() * state.absmax.element_size()
        if state.nested:
            total += state.state2.absmax.numel() * state.state2.absmax.element_size()
    return total


def load(folder: str, from_pretrained: dict[str, Any], get_peft_model: list[dict[str, Any]]) -> dict[str, Any]:
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        folder, max_seq_length=64, dtype=torch.bfloat16, device_map="cpu", **from_pretrained
    )
    parameters = {
        name: [type(each).__name__, str(each.dtype).removeprefix("torch."), parameter_bytes(each)]
        for name, each in model.named_parameters()
    }
    counts = []
    for arguments in get_peft_model:
        counts.append(in_fork(lambda arguments=arguments: count(model, arguments)))
    return {
        "class": type(model).__name__,
        "tokenizer": type(tokenizer).__name__,
        "parameters": parameters,
        "trainable": counts,
    }


def count(model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    adapted = unsloth.FastLanguageModel.get_peft_model(model, use_gradient_checkpointing=False, **arguments)
    return {"count": sum(each.numel() for each in adapted.parameters() if each.requires_grad)}


def in_fork(work: Any) -> dict[str, Any]:
    """What `work` returns in a fork of this process, or why it stopped."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.close(read)
        try:
            result = work()
        except Exception as error:
            traceback.print_exc()
            result = {"refused": f"{type(error).__name__}: {error}"[:300]}
        with os.fdopen(write, "w") as out:
            json.dump(result, out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as out:
        text = out.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"refused": f"exit status {status}"}


if __name__ == "__main__":
    stand_in()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # Unsloth collects garbage several times a load
    for each in json.load(sys.stdin):
        print(json.dumps(in_fork(lambda each=each: load(**each))), file=answer, flush=True)
