"""What the installed Unsloth's own code says of its loss and of experts in 4 bit, as JSON on stdout.

A process of its own (`python -m tests.support.models.unsloth_memory CONFIG...`): its import patches transformers for
good. The card is stood in for where the code asks it for its size; models are on the meta device.
"""

import json
import os
import sys
from collections.abc import Iterator

TOKENS = (1, 100, 512, 2048, 4095, 4096, 10_000, 100_000)
SHAPES = ((576, 49_152), (4096, 32_000), (4096, 128_256), (2560, 151_936), (2880, 201_088), (640, 262_144))
BUDGET = 2 * 2**30


def main(configs: list[str]) -> None:
    os.environ.update(UNSLOTH_ALLOW_CPU="1", HF_HUB_OFFLINE="1")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import unsloth  # noqa: F401  first, since it patches what follows
    from unsloth.models._utils import _run_temporary_patches

    _run_temporary_patches("pre_compile")
    answers = {"chunks": list(chunks()), "packed": {path: packed(path) for path in configs}}
    print(json.dumps(answers), file=out, flush=True)


def chunks() -> Iterator[list[int]]:
    """[tokens, hidden, vocab, rows of plain chunks, rows and columns of tiles on a small and on a large card]."""
    import torch
    from unsloth_zoo.fused_losses import fused_linear

    device = torch.device("cpu")
    fused_linear._budget_bytes = lambda _: BUDGET
    for tokens in TOKENS:
        for hidden, vocab in SHAPES:
            rows = fused_linear.fused_linear_rows(tokens, hidden, vocab, 4, device)
            tiles = []
            for least in (0, 4096):  # _flash_min_rows of a small and of a large card
                fused_linear._flash_min_rows = lambda _, least=least: least
                tiles += fused_linear._tiled_layout(tokens, vocab, 0, 4, device)
            yield [tokens, hidden, vocab, rows, *tiles]


def packed(path: str) -> bool:
    """Whether a 4-bit load packs the fused experts of this config's model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig
    from unsloth_zoo.temporary_patches.moe_utils_bnb4bit import Params4bit, replace_expert_params_with_bnb_params

    config = AutoConfig.from_pretrained(path)
    text = type(config) in AutoModelForCausalLM._model_mapping and ".full." not in path
    with torch.device("meta"):
        model = (AutoModelForCausalLM if text else AutoModelForImageTextToText).from_config(config)
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True, bnb_4bit_quant_type="nf4")
    replace_expert_params_with_bnb_params(model, [], quantization)
    return any(isinstance(parameter, Params4bit) for parameter in model.parameters())


if __name__ == "__main__":
    main(sys.argv[1:])
