"""Answers to questions drawn at random over all options, the same ones each time: what golden.answers does not reach.

`python -m tests.golden.drawn FILE.jsonl.gz` writes them (`make golden`). Numbers and names inside sentences count too.
"""

import csv
import json
import math
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rankviz.api import Api
from tests.golden.answers import ask, compact, write
from tests.support.models.families import one_a_family

COUNT, SELDOM_OFTEN, OTHERWISE = 2100, 900, 1500
"""Number of questions: of 30, one is a fit, two are verdicts, and the others estimates. From SELDOM_OFTEN on, three are
fits, each model is the smallest of its architecture or has experts, and what is seldom given is given often. From
OTHERWISE on, two are of serving, and the others train in one of WAYS."""
ADAPTER = re.compile(r"^ +(target_\w+|modules_to_save|\w+_pattern|finetune_\w+)=(.*),$|(Fast\w+)\.get_peft_model", re.M)
"""Arguments of an exported script that make the adapter."""
TOLD = re.compile(r"\w+(?:[._,]\w+)+|\w*\d\w*")
"""Pattern of a number or a name, such as 1,024 or q_proj."""
USUAL = {
    "--framework": ("unsloth", "unsloth", "trl", "peft"),
    "--precision": ("nf4-dq", "nf4-dq", "nf4", "bf16", "bf16", "fp16", "fp32", "int8"),
    "--gpu": (
        *("", "t4", "l4", "rtx-4090", "a100-80gb-sxm", "h100-80gb-sxm", "b200", "v100-16gb-sxm", "rtx-5090", "l40s"),
    ),
    "--targets": (
        *("unsloth", "all-linear", "attention", "mlp", "qv", "q_proj,o_proj,gate_proj", "down_proj,nothing"),
        *("self_attn.q_proj,mlp.down_proj", "layers.1.mlp.up_proj", "gate,up_proj", "experts.down_proj,v_proj"),
        *("q_proj,embed_tokens", "qkv_proj,k_proj,lm_head", "unsloth", "all-linear"),
    ),
    "--batch": ("1", "2", "2", "8", "32"),
    "--accum": ("1", "4", "4", "16"),
    "--max-length": ("128", "512", "2048", "2048", "8192", "32768"),
}
SELDOM = {
    "--optim": ("adamw_torch", "paged_adamw_8bit", "sgd"),
    "--checkpointing": ("unsloth", "hf", "none"),
    "--loss-path": ("fused-func", "triton", "full"),
    "--alpha": ("2r", "16", "100"),
    "--expert-rank": ("r/active", "r/all", "2"),
    "--moe": ("linear-only", "peft-remap", "unsloth", "target-parameters"),
    "--modules-to-save": (
        *("lm_head", "embed_tokens", "lm_head,embed_tokens", "norm", "score", "gate", "input_layernorm"),
        *("o_proj", "layers.0.self_attn.q_norm", "visual", "router,norm"),
    ),
    "--unsloth-class": ("FastModel",),
}
FLAGS = (
    *("--rslora", "--dora", "--rslora", "--dora", "--text-only", "--no-finetune-vision-layers"),
    *("--finetune-vision-layers", "--no-finetune-mlp-modules", "--no-finetune-language-layers"),
)
MORE_TARGETS = (
    *("w1,w2,w3,o_proj", "gate_proj,up_proj,q_proj", "gate_proj,q_proj", "gate_up_proj,v_proj", "gate,o_proj"),
    *("c_attn,mlp.c_proj", "dense,query_key_value", "embed_tokens,lm_head", "model.lm_head,o_proj", "in_proj,out_proj"),
    *("shared_expert.down_proj,q_proj", "layers.0.mlp.experts.down_proj", "visual.blocks.0.attn.proj,proj", "experts"),
    *("o_proj,1", "k_proj,k_proj,merger.linear_fc1"),
)
WAYS = {
    "--images": ("1", "3", "1 --image-size 4032x3024", "2 --image-size 300x900", "5 --image-size 1920x1080"),
    "--gpus": tuple(
        f"{number} --strategy {strategy}"
        for number in (2, 8)
        for strategy in ("ddp", "zero2", "zero3", "fsdp", "fsdp --offload", "zero3 --offload")
    ),
    "--gpu": ("mac-16gb", "mac-32gb", "mac-128gb"),
    "--method": tuple(
        f"grpo {more} {vllm}"
        for more in ("", "--num-generations 4 --beta 0.04", "--max-prompt-length 1500 --max-completion-length 3000")
        for vllm in (
            *("--vllm-mode none", "--vllm-mode server", "--vllm-enable-sleep-mode", ""),
            *("--vllm-gpu-memory-utilization 0.6", "--vllm-enable-sleep-mode --vllm-gpu-memory-utilization 0.45"),
        )
    ),
}
"""Images, several GPUs, a Mac, and rewards."""
SERVED = ("", "--base-bits 4", "--base-bits 8 --context 4000 --sequences 16", "--context 30000 --sequences 2")
LENGTHS = (
    "--steps 300",
    "--tokens 2000000",
    "--examples 5000",
    "--examples 800 --example-tokens 300 --epochs 2.5",
    "--examples 20000 --example-tokens 700 --longest-tokens 9000",
    "--examples 3000 --longest-tokens 300",
    "",
)


def drawn(first: int = 0, last: int = COUNT) -> Iterator[dict[str, Any]]:
    """{"question", "answer"}, in the same order every time. first, last: from which one to before which."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["RANKVIZ_HOME"] = home
        models = [row["id"] for row in json.loads(ask("models --json"))]
        of_family = sorted(one_a_family())
        seeing = [name for name in models if Api(home=home).models.get(name).image_processor]
        for number in range(first, last):
            chance, often = random.Random(number), number >= SELDOM_OFTEN
            ids = of_family if often else models
            if number >= OTHERWISE and number % 15 == 7:
                words = ["serving", chance.choice(ids), "-r", chance.choice(("8", "24", "300"))]
                lora = [*chance.sample(FLAGS[:4], chance.choice((0, 0, 1))), "--targets", chance.choice(MORE_TARGETS)]
                words += [*chance.choice(([], lora)), *chance.choice(SERVED).split()]
                yield {"question": " ".join(words), "answer": numbers(json.loads(ask([*words, "--json"])))}
            elif number % 15 == 7:
                yield verdict(chance, Path(home) / f"{number}.csv", gaps=often)
            elif number % (10 if often else 30) == 0:
                words = ["fit", chance.choice(ids), "-r", chance.choice(("8", "16", "64")), *settings(chance, often)]
                yield entry(words)
            elif number >= OTHERWISE:
                name = chance.choice(list(WAYS))
                ids = seeing if name == "--images" else ids
                words = ["estimate", chance.choice(ids), "-r", "16", "-r", "64", *settings(chance, False)]
                if name == "--method":  # it has lengths of its own
                    length, at = "--steps 300", words.index("--max-length")
                    del words[at : at + 2]
                else:
                    length = chance.choice(LENGTHS)
                usual = "--framework trl --gpu l40s --targets all-linear" if number % 4 else "--targets all-linear"
                yield entry([*words, *usual.split(), *length.split(), name, *chance.choice(WAYS[name]).split()])
            else:
                ranks = sorted(chance.sample((1, 2, 4, 8, 16, 24, 32, 64, 128, 256, 1024), 2))
                words = ["estimate", chance.choice(ids), *(word for r in ranks for word in ("-r", str(r)))]
                words += [*settings(chance, often), *chance.choice(LENGTHS).split()]
                yield entry(words, *(["--usd-per-hour", "1.25"] if chance.random() < 0.1 else []))


def settings(chance: random.Random, often: bool) -> list[str]:
    """The words of all usual options, and of a few of the others. often: of more of them."""
    usual = USUAL | {"--targets": (*USUAL["--targets"], *MORE_TARGETS)} if often else USUAL
    words = [word for name, values in usual.items() for word in (name, chance.choice(values))]
    for name in chance.sample(list(SELDOM), chance.choice((2, 3, 4) if often else (0, 0, 1, 1, 2))):
        words += [name, chance.choice(SELDOM[name])]
    return words + chance.sample(FLAGS, chance.choice((0, 1, 2) if often else (0, 0, 0, 1)))


def entry(words: Sequence[str], *price: str) -> dict[str, Any]:
    answer = json.loads(ask([*words, *price, "--json"]))
    told = {key: answer[key] for key in ("notes", "rests_on") if key in answer}
    if "ranks" in answer:
        told["adapters"] = [[rank[key] for key in ("targets", "expert_rank", "experts")] for rank in answer["ranks"]]
        script = ask(["export", *words[1:4], *words[6:]])
        told["exported"] = [list(filter(None, each)) for each in ADAPTER.findall(script)]
        answer = compact(answer)
    return {"question": " ".join([*words, *price]), "answer": numbers(answer | told)}


def verdict(chance: random.Random, table: Path, *, gaps: bool) -> dict[str, Any]:
    """The verdict on losses, or correct answers, that are drawn around a mean that depends on the rank or does not.
    gaps: without some runs and examples."""
    ranks = sorted(chance.sample((4, 8, 16, 32, 64, 128), chance.choice((1, 2, 2, 3, 4))))
    seeds, examples = chance.choice((1, 2, 3, 3, 4)), chance.choice((1, 2, 5, 40, 150) if gaps else (1, 5, 40, 150))
    rates = chance.choice(((2e-4,), (2e-4,), (1e-4, 4e-4)))
    exact, effect = chance.random() < 0.3, chance.choice((0.0, 0.003, 0.05, 0.3))
    fine = exact or chance.random() < 0.9
    base = [chance.gauss(1.5, 0.4) for _ in range(examples)]
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "seed", "learning_rate", "example", "correct" if exact else "loss"])
        for place, r in enumerate(ranks):
            for seed in range(seeds):
                for rate in rates:
                    if gaps and chance.random() < 0.1:
                        continue
                    shift = chance.gauss(-effect * place, 0.01) + 50 * (rate - 2e-4)
                    for number, mean in enumerate(base):
                        if gaps and number and chance.random() < 0.002:
                            continue
                        loss = mean + shift + chance.gauss(0, 0.05) if fine or (r, seed) != (ranks[0], 0) else math.nan
                        writer.writerow([r, seed, rate, number, int(loss < 1.5) if exact else round(loss, 4)])
    more = chance.choice(([], [], ["--tolerance", "0.05" if not exact else "2"], ["--tolerance", "3%"]))
    if more[1:] == ["3%"]:
        more = [*more, *(("--base-accuracy", "20") if exact else ("--base-loss", "2.5"))]
    shown = (
        f"verdict of {ranks} x {seeds} seeds x {rates}, {examples} examples, {'correct' if exact else 'loss'} {more}"
    )
    return {"question": shown, "answer": numbers(json.loads(ask(["verdict", str(table), *more, "--json"])))}


def numbers(value: Any) -> Any:
    """The value with the numbers and names alone of its sentences."""
    match value:
        case dict():
            return {key: numbers(each) for key, each in value.items()}
        case list():
            return [numbers(each) for each in value]
        case str() if " " in value:
            return " ".join(["text", *TOLD.findall(value)])
    return value


if __name__ == "__main__":
    write(sys.argv[1], drawn())
