"""Answers of the command line on a fixed set of questions, as lines of JSON: what a refactoring must not move.

`python -m tests.golden.answers FILE.jsonl.gz` writes them (`make golden`); tests/test_golden.py compares. Sentences are
left out, so that they may be reworded: numbers, keys, and words without a space in them are kept.
"""

import contextlib
import csv
import gzip
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from safetensors.numpy import load_file, save_file

ASSETS = Path(__file__).parents[2] / "assets"
RANKS = ("-r", "4", "-r", "16", "-r", "128")
TARGETS = ("unsloth", "all-linear", "attention", "mlp", "qv")
SETUPS = {
    "unsloth-nf4": "--gpu L4 --steps 1000",
    "trl-bf16-dora": "--framework trl --precision bf16 --gpu a100-80gb-sxm --tokens 3000000 --dora --loss-path full "
    "--checkpointing hf --batch 4 --accum 1 --alpha 2r",
    "peft-int8-rslora": "--framework peft --precision int8 --gpu T4 --optim adamw_torch --max-length 512 --rslora "
    "--loss-path full --checkpointing none --alpha 32",
}
ADVISED = (
    "Qwen/Qwen3-4B",
    "meta-llama/Llama-3.1-8B",
    "google/gemma-3-4b-it",
    "mistralai/Mixtral-8x7B-v0.1",
    "openai/gpt-oss-20b",
    "HuggingFaceTB/SmolLM2-135M",
)
GOALS = (
    "--use-case simple",
    "--use-case instruction --examples 1000",
    "--use-case instruction --examples 50000 --forgetting",
    "--use-case complex --examples 20000",
    "--use-case complex --examples 2000000 --example-tokens 900",
    "--use-case near-full --examples 100000 --gpu L4",
    "--use-case pretraining --examples 3000000 --example-tokens 2048",
    "--use-case pretraining --forgetting",
    "--examples 300 --example-tokens 100 --gpu T4",
    "--targets attention --framework trl --gpu a100-80gb-sxm",
)
FORECASTS = (
    "Qwen/Qwen3-4B --use-case simple",
    "Qwen/Qwen3-4B --use-case instruction",
    "google/gemma-3-4b-it --use-case complex",
    "openai/gpt-oss-20b --use-case near-full",
    "meta-llama/Llama-3.1-8B --use-case pretraining",
    "meta-llama/Llama-3.1-8B --use-case pretraining --metric loss",
    "Qwen/Qwen3-4B --use-case rl",
    "Qwen/Qwen3-4B --use-case rl --metric loss",
    "roberta-base --use-case simple",
    "--parameters 125e6 --metric loss",
)
"""And one for each recorded sweep, between its runs."""
FITS = (
    "Qwen/Qwen3-4B -r 16 --gpu T4",
    "meta-llama/Llama-3.1-8B -r 16 --gpu L4 --steps 1000",
    "meta-llama/Llama-3.1-8B -r 64 --gpu T4 --framework peft --loss-path full --checkpointing hf",
    "mistralai/Mixtral-8x7B-v0.1 -r 8 --gpu a100-80gb-sxm --price L4=0.5",
    "HuggingFaceTB/SmolLM2-135M -r 256 --precision fp32",
)
EXPORTS = (
    "Qwen/Qwen3-4B -r 16 --format script",
    "Qwen/Qwen3-4B -r 16 --format notebook --steps 200",
    "meta-llama/Llama-3.1-8B -r 64 --format axolotl --alpha 2r",
    "meta-llama/Llama-3.1-8B -r 8 --format llamafactory --rslora",
    "google/gemma-3-4b-it -r 32 --format peft --targets attention",
    "google/gemma-3-4b-it -r 32 --format trl --precision bf16",
    "mistralai/Mixtral-8x7B-v0.1 -r 8 --format adapter-config --framework peft",
    "HuggingFaceTB/SmolLM2-135M -r 4 --format unsloth --targets mlp --dora --precision bf16",
    "openai-community/gpt2 -r 16 --format script --framework peft --targets qv --precision bf16",
    "Qwen/Qwen3-4B -r 128 --format script --modules-to-save lm_head --lr 5e-5",
)


def answers() -> Iterator[dict[str, Any]]:
    """{"question", "answer"}, in the same order every time."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["RANKVIZ_HOME"] = home
        models = [row["id"] for row in json.loads(ask("models --json"))]
        yield {"question": "models", "answer": models}
        for model in models:
            for targets in TARGETS:
                for name, setup in SETUPS.items():
                    words = ["estimate", model, *RANKS, "--targets", targets, *setup.split(), "--json"]
                    yield {"question": f"estimate {model} {targets} {name}", "answer": compact(answer(words))}
        for model in ADVISED:
            for goal in GOALS:
                yield entry(f"advise {model} {goal} --json")
        for forecast in FORECASTS:
            yield entry(f"forecast {forecast} --json")
        for fit in FITS:
            yield entry(f"fit {fit} --json")
        yield entry("evidence list Qwen/Qwen3-4B --json")
        for export in EXPORTS:
            yield {"question": f"export {export}", "answer": code(ask(f"export {export}"))}
        yield from recorded(Path(home))
        yield from adapters(Path(home))
        published = answer(["validate", str(ASSETS / "validation" / "published.csv"), "--json"])
        yield {"question": "validate", "answer": {key: value for key, value in published.items() if key != "made"}}


def recorded(home: Path) -> Iterator[dict[str, Any]]:
    """Every recorded run beside its estimate, and the verdict on the losses of every recorded sweep."""
    losses: dict[str, dict[str, list[list[Any]]]] = {}
    for folder in sorted((ASSETS / "recorded" / "runs").iterdir()):
        yield entry(f"runs show {folder.name} --json")
        request = json.loads((folder / "request.json").read_text())
        setting = request if "r" in request else {**request["training"], **request["lora"], **request}
        for line in (folder / "events.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event.get("when") == "after":
                losses.setdefault(request["sweep_id"], {})[folder.name] = [
                    [setting["r"], setting["seed"], setting["learning_rate"], number, loss]
                    for number, loss in enumerate(event["example_losses"])
                ]
    for sweep, runs in losses.items():
        yield entry(f"forecast embedded --runs {sweep} --json")
        table = home / f"{sweep}.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["rank", "seed", "learning_rate", "example", "loss"])
            writer.writerows(row for rows in runs.values() for row in rows)
        yield {"question": f"verdict {sweep}", "answer": answer(["verdict", str(table), "--json"])}


def adapters(home: Path) -> Iterator[dict[str, Any]]:
    """Spectra and resizes of three adapters: plain fp32, patterns with rsLoRA in fp16, and GPT-2's Conv1D."""
    for name, (tensors, config) in _adapters().items():
        folder = home / name
        folder.mkdir()
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
        yield {"question": f"spectrum {name}", "answer": answer(["spectrum", str(folder), "--json"])}
        for number, how in enumerate((["-r", "3"], ["--energy", "0.9"], ["-r", "2", "--dtype", "fp16"])):
            target = home / f"{name}-{number}"
            result = answer(["resize", str(folder), *how, "-o", str(target), "--json"])
            result.pop("output")
            yield {"question": f"resize {name} {' '.join(how)}", "answer": {**result, "update": _updates(target)}}


def _adapters() -> dict[str, tuple[dict[str, np.ndarray], dict[str, Any]]]:
    def pair(name: str, out: int, r: int, into: int, seed: int, dtype=np.float32) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(seed)
        b = draw.standard_normal((out, r)) * 0.7 ** np.arange(r)
        return {
            f"{name}.lora_A.weight": draw.standard_normal((r, into)).astype(dtype),
            f"{name}.lora_B.weight": b.astype(dtype),
        }

    base = "base_model.model.model.layers"
    plain, patterned, gpt2 = {}, {}, {}
    for block in range(3):
        for place, (module, out, into) in enumerate([("q_proj", 48, 64), ("v_proj", 16, 64), ("down_proj", 64, 96)]):
            seed = 10 * block + place
            plain |= pair(f"{base}.{block}.self_attn.{module}", out, 8, into, seed)
            r = 6 if module == "v_proj" else 4
            patterned |= pair(f"{base}.{block}.self_attn.{module}", out, r, into, seed, np.float16)
        gpt2 |= pair(f"base_model.model.transformer.h.{block}.attn.c_attn", 96, 8, 32, 100 + block)
    names = ["q_proj", "v_proj", "down_proj"]
    return {
        "plain": (plain, {"r": 8, "lora_alpha": 16, "target_modules": names}),
        "patterned": (
            patterned,
            {
                "r": 4,
                "lora_alpha": 8,
                "use_rslora": True,
                "rank_pattern": {"v_proj": 6},
                "alpha_pattern": {"v_proj": 12},
                "target_modules": names,
            },
        ),
        "gpt2": (gpt2, {"r": 8, "lora_alpha": 8, "fan_in_fan_out": True, "target_modules": ["c_attn"]}),
    }


def _updates(folder: Path) -> dict[str, list[float]]:
    """Of each module, B·A seen through fixed vectors: how an update is factored is left free."""
    tensors = load_file(folder / "adapter_model.safetensors")
    seen = {}
    for name, a in sorted(tensors.items()):
        if ".lora_A." in name:
            b = tensors[name.replace(".lora_A.", ".lora_B.")].astype(np.float64)
            a = a.astype(np.float64)
            left, right = np.cos(np.arange(b.shape[0])), np.sin(1 + np.arange(a.shape[1]))
            seen[name] = [float(left @ b @ a @ right), float(np.sum((b @ a) ** 2))]
    return seen


def ask(words: str | list[str]) -> str:
    """What `rankviz WORDS` prints, in this process; a refusal's exit code and sentence where it fails."""
    from rankviz.cli import commands, main

    out, err = io.StringIO(), io.StringIO()
    argv, made = sys.argv, mock.patch.object(commands, "app", partial(_command, commands.app))
    sys.argv = ["rankviz", *(words.split() if isinstance(words, str) else words)]
    try:
        with made, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        if stop.code:
            return json.dumps({"exit": stop.code, "why": err.getvalue()})
    finally:
        sys.argv = argv
    return out.getvalue()


def _command(app: Callable, names: Iterable[str]) -> Any:
    """What Typer makes of the code of these commands, which takes longer than most answers."""
    return _made(app, tuple(names))


@cache
def _made(app: Callable, names: tuple[str, ...]) -> Any:
    from typer.main import get_command

    return get_command(app(names))


def answer(words: list[str]) -> Any:
    return worded(json.loads(ask(words)))


def entry(words: str) -> dict[str, Any]:
    return {"question": words, "answer": answer(words.split())}


def worded(value: Any) -> Any:
    """The value without its sentences."""
    match value:
        case dict():
            return {key: worded(each) for key, each in value.items()}
        case list():
            return [worded(each) for each in value]
        case str() if " " in value:
            return "…"
    return value


def compact(estimate: Any) -> Any:
    """An estimate with each rank as a plain list, its keys once."""
    if "exit" in estimate:
        return estimate
    for name in ("notes", "rests_on"):
        estimate.pop(name)
    rows = estimate.pop("ranks")
    return {**estimate, "keys": list(_flat(rows[0])), "ranks": [list(_flat(row).values()) for row in rows]}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": each for name, each in value.items()}
        elif key not in ("targets", "expert_rank", "experts", "rollout"):
            flat[key] = value
    return flat


def code(text: str) -> list[str]:
    """The lines of an export without comments and docstrings' sentences, in order."""
    kept = []
    for line in text.splitlines():
        bare = line.split("#")[0].rstrip()
        if bare and not bare.lstrip().startswith('"""') and not bare.startswith(('   "source', '  "source')):
            kept.append(bare)
    return kept


def write(path: str, lines: Iterable[Any]) -> None:
    """One line of JSON each, packed; the same bytes for the same lines."""
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        for line in lines:
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    write(sys.argv[1], answers())
