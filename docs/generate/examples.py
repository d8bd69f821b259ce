"""Examples in docs/tour.md: commands with their output, as it must read now."""

import io
import os
import shlex
from contextlib import redirect_stderr, redirect_stdout
from tempfile import TemporaryDirectory
from unittest.mock import patch

EXAMPLES = {
    "mac": ("What fits on my Mac?", "rankviz estimate Qwen/Qwen3-8B -r 16 --gpu mac-32gb --batch 1 --max-length 1024"),
    "loraplus": (
        "How do I train with LoRA+?",
        "rankviz export Qwen/Qwen3-4B -r 16 --format llamafactory --loraplus-lr-ratio 16 --lr 1e-4",
    ),
    "agents": ("What is a model called here, and which others are like it?", "rankviz models qwen3 4b --limit 3"),
    "images": (
        "What does a photo cost in training?",
        "rankviz estimate Qwen/Qwen3-VL-4B-Instruct --gpu L4 --images 1 --image-size 4032x3024 --example-tokens 200",
    ),
    "serving": (
        "Which max_lora_rank does vLLM need, and how many adapters fit on the card?",
        "rankviz serving Qwen/Qwen3-8B -r 24 --gpu L4 --context 4096 --sequences 4",
    ),
    "two-gpus": (
        "Does a 70B model train on two cards of 24 GB?",
        "rankviz estimate meta-llama/Llama-3.1-70B -r 16 --gpu rtx-4090 --gpus 2 --strategy fsdp --offload "
        "--framework trl --batch 1 --steps 500",
    ),
    "grpo": (
        "Does GRPO of a 4B model fit a card of 24 GB, with vLLM beside it?",
        "rankviz estimate Qwen/Qwen3-4B -r 16 --gpu L4 --method grpo --max-completion-length 1024 --steps 250",
    ),
}
"""Question and command, by the name of the generated block."""
SHOWN = {
    "mac": (" ", "Qwen", "- Not", "- By", "- MLX LM"),
    "agents": (" ", "6", "- And"),
    "serving": ("Qwen", "  Subject", "  One", "  vLLM 0", "  max_lora", "  Slots", "  Merged", "  llama", "- vllm"),
    "two-gpus": (" ", "meta", "- Memory", "- The", "- Offload", "- 2 GPUs"),
    "loraplus": ("learning_rate", "loraplus_lr_ratio", "lora_rank", "Note: LoRA+"),
    "images": (" ", "Qwen", "- An image", "- No", "- The vision", "- Time is"),
    "grpo": (" ", "Qwen", "- vLLM", "- One step", "- Time is", "- Nothing is"),
}
"""Beginnings of the lines that are shown, where the output is long."""


def examples() -> dict[str, str]:
    """Text of each example by the name of its block."""
    from rankviz.cli.commands import app

    texts, command = {}, app()
    with TemporaryDirectory() as home, patch.dict(os.environ, {"RANKVIZ_HOME": home, "COLUMNS": "118"}):
        for name, (question, line) in EXAMPLES.items():
            printed = io.StringIO()
            with redirect_stdout(printed), redirect_stderr(printed):
                command(shlex.split(line)[1:], standalone_mode=False)
            starts = SHOWN.get(name, ("",))
            output = "\n".join(each.rstrip() for each in printed.getvalue().splitlines() if each.startswith(starts))
            texts[f"example {name}"] = f"**{question}**\n\n```console\n$ {line}\n{output}\n```"
    return texts
