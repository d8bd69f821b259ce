"""Writes a checkpoint of a few blocks with random weights, so that a probe needs no download.

Its shapes come from the model built on the meta device, its values from one block of random numbers written again and
again: what they are moves neither memory nor time, as long as they are neither zeros nor denormal. Written in bf16, as
published checkpoints are, straight to disk, so that writing takes no memory either. Not covered: weights that are
stored otherwise than the model holds them (experts one by one); those under names that transformers doesn't know are
made anew by it when it loads.
"""

import json
import math
import random
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankviz.core.model.config_check import without_code
from rankviz.errors import UserError

BF16_BYTES = 2
CHUNK_NUMBERS = 2**20
FREE_DISK_SHARE = 0.9


def write_random_base(config: Mapping[str, Any], depth: int, folder: Path) -> None:
    """Config, weights and a tokenizer of a few words into `folder`; UserError where the disk has no room for them."""
    from rankviz.worker.introspect.layers import build, cut_config

    cut = cut_config(without_code(config), depth)
    model = build(cut)
    shapes = dict(_stored(model))
    size = BF16_BYTES * sum(math.prod(shape) for shape in shapes.values())
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    if size > FREE_DISK_SHARE * free:
        raise UserError(
            f"{depth} blocks with random weights take {size / 1e9:.1f} GB of disk for a moment, and "
            f"{free / 1e9:.1f} GB are free: make room, or probe fewer blocks."
        )
    _write_safetensors(folder / "model.safetensors", shapes)
    cut.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps({**cut, "torch_dtype": "bfloat16"}))
    _write_tokenizer(folder)


def _stored(model: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of what a checkpoint holds: of weights that share a tensor one, buffers that are saved too."""
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tuple(tensor.shape)


def _write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """safetensors by hand: 8 bytes of header length, a JSON header, the numbers one tensor after the other."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + BF16_BYTES * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    noise, ones = _noise(), struct.pack("<H", 0x3F80) * CHUNK_NUMBERS
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            # Norms start at one, as in any fresh model, or activations would vanish into denormals.
            chunk = ones if len(shape) < 2 and not name.endswith("bias") else noise
            left = BF16_BYTES * math.prod(shape)
            while left > 0:
                left -= file.write(chunk[:left])


def _noise() -> bytes:
    """Normal numbers of standard deviation 0.02 as bf16: the upper half of each fp32."""
    chance = random.Random(0)
    few = [struct.pack("<f", chance.gauss(0.0, 0.02))[2:] for _ in range(2**16)]
    return b"".join(few) * (CHUNK_NUMBERS // len(few))


def _write_tokenizer(folder: Path) -> None:
    """Loaders and collators ask for one; the probe's rows are token ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocab=words, unk_token="<unk>")),
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder)
