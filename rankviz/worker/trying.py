"""Answers a person's own prompt with a base model and with an adapter of it. Both must be on this machine."""

import os
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from rankviz.dataset import Example
from rankviz.dataset.rows import OTHER
from rankviz.errors import UserError
from rankviz.paths import is_hub_id
from rankviz.references import Reference
from rankviz.worker import base as bases
from rankviz.worker import device
from rankviz.worker.finetune import data, measure

NOT_HERE = (
    "The base model {} is not on this machine: the run trained elsewhere, or the model was removed to make room. Train "
    "a run of this base here, then ask again."
)


def answered(
    base: Mapping[str, Any],
    run: Mapping[str, Any],
    adapter: str,
    prompt: str,
    is_chat: bool,
    tokens: int,
    seconds: float,
) -> Mapping[str, Any]:
    """Return the greedy answers of a base and of an adapter, each as [text, True where the model ended it]. Loading and
    both answers may take `seconds`; late answers are cut off, and so are those of more than `tokens`.

    Args:
        base: Fields of the base's Reference.
        run: The entries home (the runs folder), and text_only, loaded_from and precision, as the run loaded the base.
        adapter: Folder of the adapter.
        prompt: Text as in the training data; where is_chat is True, the user's message.
    """
    until, reference, precision = time.monotonic() + seconds, Reference(**base), run["precision"]
    not_here = UserError(NOT_HERE.format(Path(reference.text).name))

    def refuse(stage: str) -> NoReturn:
        raise not_here

    device.set_environment()
    os.environ["HF_HUB_OFFLINE"] = "1"
    found = bases.resolve(reference, Path(run["home"]), refuse)
    os.chdir(os.environ["TMPDIR"])  # loaders would prefer a folder with the name of a repository
    import torch
    import transformers
    from peft import PeftModel

    name, how = found.name, {"dtype": getattr(torch, device.DTYPES.get(precision, "float32"))}
    if device.has_cuda():
        how |= {"device_map": device.ONE_CARD}
        name = run["loaded_from"] if is_hub_id(run["loaded_from"]) and not found.is_local else name
        if precision not in device.DTYPES:
            how["dtype"] = torch.bfloat16 if device.has_bf16() else torch.float16
            if not name.endswith("bnb-4bit"):
                how["quantization_config"] = device.quantization(precision, str(how["dtype"]).removeprefix("torch."))
    try:
        sees = hasattr(transformers.AutoConfig.from_pretrained(name), "vision_config") and not run["text_only"]
        kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        tokenizer, model = transformers.AutoTokenizer.from_pretrained(name), kind.from_pretrained(name, **how)
    except OSError as error:  # of transformers and the Hub's client, where a file is missing
        raise not_here from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")
            model = PeftModel.from_pretrained(model, adapter)
    except (UserWarning, RuntimeError, ValueError) as error:
        if device.ran_out_of_memory(error):
            raise
        raise UserError(
            "PEFT does not find all layers of this adapter in the base, as where Unsloth trained experts. Merge it "
            "with the Unsloth script of the export, and ask the merged model."
        ) from error
    chat = Example(messages=(("user", prompt), ("assistant", "a")))
    question = data.ask(chat, tokenizer, 100_000) if is_chat else None  # a page's prompts have fewer tokens
    if question is None:  # a space before an answer belongs to the answer's first token
        begins = prompt.startswith(tokenizer.bos_token or OTHER)
        ids = tokenizer(prompt.rstrip(" "), add_special_tokens=not begins)["input_ids"]
        question = data.HeldOutQuestion(ids, [tokenizer.eos_token_id or 0])
    question.reference.extend(question.reference[-1:] * tokens)  # since no answer is much longer than its reference
    replies = {}
    for whose, without, share in (("base", model.disable_adapter, 0.5), ("adapter", nullcontext, 0.9)):
        with without():
            left = share * (until - time.monotonic())
            (replies[whose],) = measure.answers(model, tokenizer, {0: question}, most=tokens, seconds=left).values()
    return replies
