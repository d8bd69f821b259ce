"""Runs random exports as they are on tiny random checkpoints, and compares what each trained with what RankViz says.

    python -m benchmarks.exports [QUESTIONS [SEED]]

Drawn are the family, the tool, the adapter, precision, batch, length and epochs, the form of the data, and a chat
template: one that TRL ships of a real model, or none. Compared are trained parameters, bytes of the adapter's file,
rows, steps, the longest row and the tokens that the loss is over. Unsloth runs by its CPU backend, LLaMA-Factory by its
own code from the pinned wheel. Axolotl's needs more than is here: its own validation and prompt strategies read the
file. No tool packs rows. Writes docs/method.md; fails where any figure differs.
"""

import functools
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from jinja2 import TemplateError

from docs.generate.markdown import replace_block, table
from rankviz import dataset
from rankviz.api import data as data_files
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.errors import BadDataError, RankVizError
from rankviz.exports import FORMATS, Recipe, recipe, write
from rankviz.exports.configs import llamafactory_framework
from rankviz.exports.recipe import data
from rankviz.paths import ASSETS
from tests.exports.tools.test_axolotl import CHECK
from tests.support.measured import measured, when_and_where
from tests.support.models.tiny_models import KINDS, SHAPES, make_tiny, write_rows
from tests.support.models.tool_wheels import AXOLOTL, LLAMAFACTORY, checked, unpacked
from tests.support.processes.exports import counted_here, run_exports, trained_steps

QUESTIONS, SEED = 60, 24
PAGE = Path(__file__).parents[1] / "docs" / "method.md"
TOOLS = {
    **dict.fromkeys(("unsloth", "trl", "peft"), "run as it is"),
    "llamafactory": "run by its own code",
    "axolotl": "validated, and a row tokenized, by its own code",
}
"""By format: what is done with its file."""
OF_PICTURES = ("idefics3", "llava_next", "smolvlm")
"""Templates that read messages in parts alone, as processors write them."""


class Drawn(NamedTuple):
    """One question, whose files are in its folder."""

    folder: Path
    about: Mapping[str, Any]
    expected: Mapping[str, Any]


@functools.cache
def templates() -> Mapping[str, str]:
    """Chat templates of real models, as TRL ships them, by name."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    names = (path for path in sorted(folder.glob("*.jinja")) if not path.stem.endswith("_training"))
    return {path.stem: path.read_text(encoding="utf-8") for path in names if path.stem not in OF_PICTURES}


def draw(chance: random.Random, home: Path, number: int) -> Drawn:
    """A question that RankViz takes, with its files."""
    for attempt in range(100):
        template = chance.choice([None, *templates()])
        about = {
            "tool": chance.choice(list(TOOLS)),
            "family": chance.choice(list(SHAPES)),
            "rows": chance.choice(list(KINDS)),
            "template": template or "none",
        }
        base = home / f"{number}-{attempt}" / ("tiny-instruct" if template else "tiny-base")
        try:
            return drawn(chance, base, about)
        except (RankVizError, TemplateError):
            continue  # no export: RankViz refuses it, or the template these chats, such as a system message
    raise AssertionError("Everything that is drawn is refused.")


def drawn(chance: random.Random, base: Path, about: Mapping[str, Any]) -> Drawn:
    """The rest of a question. RankVizError where RankViz refuses it."""
    from rankviz.worker.introspect.layers import layers_of

    tool, shape, moe = about["tool"], about["family"], about["family"] == "qwen3_moe"
    if tool in ("axolotl", "llamafactory") and about["rows"] == "prompts":
        raise BadDataError("They read no prompts and completions as lists of messages.")
    make_tiny(shape, base, templates().get(about["template"]))
    data = base.with_name(f"mine.{chance.choice(('jsonl', 'json'))}")
    write_rows(data, about["rows"], chance.randint(8, 24))
    if data.suffix == ".json":
        data.write_text(json.dumps([json.loads(line) for line in data.read_text().splitlines()]))
    epochs = chance.choice((None, 1, 2))
    lora = LoraConfig(
        target_modules=chance.choice(("default", "attention", "all-linear", *(() if moe else ("mlp", "qv")))),
        use_rslora=chance.random() < 0.3,
        use_dora=not moe and chance.random() < 0.2,
    )
    training = TrainingSetup(
        framework=tool if tool in ("unsloth", "peft") else "trl",
        precision="bf16" if tool == "llamafactory" else chance.choice(("fp32", "bf16")),
        optim=chance.choice(("adamw_torch", "sgd")),
        per_device_train_batch_size=chance.randint(1, 4),
        gradient_accumulation_steps=chance.randint(1, 3),
        max_length=chance.choice((64, 256, 512)),
        gradient_checkpointing=chance.choice(("none", "hf")),
        loss_path="full",
        max_steps=None if epochs else chance.randint(2, 6),
        data=replace(data_files.measured(str(data), ASSETS).training, num_train_epochs=epochs),
    )
    question = Question(model_id=str(base), lora=lora, lora_alpha=chance.choice(("r", "2r")), training=training)
    r, model, chosen = chance.choice((1, 2, 4, 8, 16)), layers_of(SHAPES[shape]), FORMATS[tool]
    framework = llamafactory_framework(model, question) if tool == "llamafactory" else training.framework
    made = recipe(model, question, r, framework=framework, tool=chosen.tool)
    written = write(model, question, r, tool)
    name = "train.py" if written.file_name.endswith(".py") else written.file_name
    for file, text in ((name, written.text), *written.extra_files):
        base.with_name(file).write_text(text, encoding="utf-8")
    more = {"r": r, "targets": lora.target_modules, "precision": training.precision, "epochs": epochs or "steps"}
    return Drawn(base.parent, {**about, **more}, EXPECTED[tool](made, tokenized(base, data, training.max_length)))


def tokenized(base: Path, data: Path, max_length: int) -> Sequence[Any]:
    """The rows as RankViz's own runs would train them."""
    from transformers import AutoTokenizer

    from rankviz.worker.finetune.data import tokenize

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokens = [tokenize(example, tokenizer, max_length) for example in dataset.read(str(data), ASSETS).examples]
    if not all(each.targets for each in tokens):
        raise BadDataError("Its prompts fill the length, so fewer rows train than RankViz knows of.")
    return tokens


def of_script(made: Recipe, tokens: Sequence[Any]) -> dict[str, Any]:
    """What RankViz says that a script trains, on a machine without a GPU."""
    parameters, size = counted_here(made)
    return {
        "trained": parameters,
        "bytes": size,
        "steps": trained_steps(made),
        "rows": len(tokens) - math.ceil(data()["constants"]["held_out_share"] * len(tokens)),
        "longest": max(len(each.input_ids) for each in tokens),
        "loss_tokens": sum(each.targets for each in tokens),
    }


def of_llamafactory(made: Recipe, tokens: Sequence[Any]) -> dict[str, Any]:
    """Without tokens: its templates are its own."""
    return {
        "trained": made.adapter_parameters,
        "bytes": made.adapter_bytes[0],
        "steps": trained_steps(made),
        "rows": len(tokens) - math.ceil(data()["constants"]["held_out_share"] * len(tokens)),
        "length": made.training.max_length,
    }


def of_axolotl(made: Recipe, tokens: Sequence[Any]) -> dict[str, Any]:
    """What its settings must be once they are validated."""
    return {
        "unknown": [],
        "lora_r": made.lora.r,
        "lora_alpha": made.lora_alpha,
        "sequence_len": made.training.max_length,
        "micro_batch_size": made.training.per_device_train_batch_size,
        "gradient_accumulation_steps": made.training.gradient_accumulation_steps,
        **({"num_epochs": made.epochs} if made.epochs else {"max_steps": made.max_steps}),
        "path": made.data.file_name,
        "learns": True,
    }


EXPECTED = dict.fromkeys(("unsloth", "trl", "peft"), of_script) | {
    "llamafactory": of_llamafactory,
    "axolotl": of_axolotl,
}


def results_of(tool: str, places: Sequence[str], wheels: Path) -> Mapping[str, Mapping[str, Any]]:
    """By folder, what the tool made of its files."""
    if tool == "axolotl":
        return checked(unpacked(AXOLOTL, wheels), AXOLOTL_READS, places, wheels)
    if tool == "llamafactory":
        return checked(unpacked(LLAMAFACTORY, wheels), LLAMAFACTORY_RUNS, places, wheels)
    results = run_exports("unsloth" if tool == "unsloth" else "plain", places)
    return {
        place: each | {"bytes": each.get("files", {}).get("adapter_model.safetensors")}
        for place, each in results.items()
    }


AXOLOTL_READS = (
    CHECK.partition("results = {}")[0]
    + """
import os, traceback, yaml
from axolotl.prompt_strategies import chat_template, completion, user_defined
from datasets import load_dataset
from transformers import AutoTokenizer

def learned(settings):
    (rows,), tokenizer = settings["datasets"], AutoTokenizer.from_pretrained(settings["base_model"])
    row, cfg = load_dataset(rows["ds_type"], data_files=rows["path"], split="train")[0], DictDefault(settings)
    if rows["type"] == "completion":
        return completion.load(tokenizer, cfg, rows).tokenize_prompt({key: [row[key]] for key in row})["input_ids"][0]
    if isinstance(rows["type"], dict):
        strategy = user_defined.load(tokenizer, cfg, user_defined.UserDefinedDatasetConfig(**rows["type"]))
    else:
        strategy = chat_template.load(tokenizer, cfg, ds_cfg=DictDefault(rows))
    return [label for label in strategy.tokenize_prompt(row)["labels"] if label != -100]

results = {}
for place in json.load(sys.stdin):
    os.chdir(place)
    config = yaml.safe_load(open("axolotl.yaml"))
    settings = DictDefault(config)
    prepare_plugins(settings)
    try:
        accepted = validate_config(settings, card, {"torch_version": "2.14.0"}).to_dict()
        unknown = sorted({*config} - known | ({config["optimizer"]} - optimizers))
        path = accepted["datasets"][0]["path"]
        results[place] = {**accepted, "unknown": unknown, "path": path, "learns": bool(learned(config))}
    except Exception:
        error = traceback.format_exc()
        results[place] = {"error": error[-600:], "unread": "in parse_template" in error}
print("CHECKED", json.dumps(results, default=str))
"""
)
LLAMAFACTORY_RUNS = """
import importlib.machinery, json, os, sys, traceback, types
audio = types.ModuleType("torchaudio")  # imported for models that hear, used by none here
audio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = audio
import trl, yaml
trl.AutoModelForCausalLMWithValueHead = object  # of an older TRL, for reward models
from llamafactory.hparams import get_train_args
from llamafactory.train.pt.workflow import run_pt
from llamafactory.train.sft.workflow import run_sft
from safetensors.torch import load_file
from transformers import Trainer
train, seen = Trainer.train, {}

def remember(self, *args, **kwargs):
    done = train(self, *args, **kwargs)
    seen.update(rows=len(self.train_dataset), steps=self.state.global_step)
    return done

Trainer.train = remember
results, printed = {}, os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for place in json.load(sys.stdin):
    os.chdir(place)
    config = yaml.safe_load(open("llamafactory.yaml"))
    try:
        *arguments, tuning, generating = get_train_args({**config, "use_cpu": True})
        run_pt(*arguments, tuning) if tuning.stage == "pt" else run_sft(*arguments, tuning, generating)
        file = "outputs/adapter_model.safetensors"
        count = sum(tensor.numel() for tensor in load_file(file).values())
        results[place] = {**seen, "trained": count, "bytes": os.path.getsize(file), "length": config["cutoff_len"]}
    except Exception:
        error = traceback.format_exc()
        results[place] = {"error": error[-600:], "unread": "in parse_template" in error}
print("CHECKED", json.dumps(results), file=printed)
"""


def differences(each: Drawn, result: Mapping[str, Any]) -> list[str]:
    """Sentences on what differs; none where all is equal."""
    print("", dict(each.about), flush=True)
    if error := result.get("error"):
        return [error]
    return [
        f"{name}: RankViz says {value}, trained {result.get(name)}"
        for name, value in each.expected.items()
        if value != result.get(name)
    ]


def main(questions: int = QUESTIONS, seed: int = SEED) -> None:
    """Draw, run, compare and write."""
    chance, lines, wrong, unread = random.Random(seed), [], 0, 0
    with TemporaryDirectory() as home, TemporaryDirectory() as wheels, ThreadPoolExecutor(len(TOOLS)) as pool:
        asked = [draw(chance, Path(home), number) for number in range(questions)]
        groups = {tool: [each for each in asked if each.about["tool"] == tool] for tool in TOOLS}
        running = {
            tool: pool.submit(results_of, tool, [str(each.folder) for each in group], Path(wheels) / tool)
            for tool, group in groups.items()
        }
        for tool, done in TOOLS.items():
            group, differ = [], 0
            for each in groups[tool]:
                result = running[tool].result()[str(each.folder)]
                if result.get("unread"):
                    # LLaMA-Factory reads no such template of a tokenizer: its file says that it may stop so.
                    words = (each.folder / "llamafactory.yaml").read_text(encoding="utf-8").replace("#", " ").split()
                    assert "stops where it cannot" in " ".join(words)
                    print("  NOT READ by LLaMA-Factory", dict(each.about), flush=True)
                    unread += 1
                    continue
                group.append(each)
                sentences = differences(each, result)
                differ += bool(sentences)
                print("".join(f"  DIFFERS {sentence}\n" for sentence in sentences), end="", flush=True)
            counts = [str(len({each.about[kind] for each in group})) for kind in ("family", "rows", "template")]
            lines.append([tool, done, *counts, str(len(group)), str(len(group) - differ)])
            wrong += differ
    header = ["Tool", "What is done with the file", "Families", "Forms", "Templates", "Files", "Equal"]
    body = f"{when_and_where([measured()])} Seed {seed}.\n\n{table(header, lines)}"
    if unread:
        body += f"\nNot counted: {unread}, whose tokenizer's template LLaMA-Factory cannot read, as the file warns.\n"
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "exports", f"\n{body}\n"), encoding="utf-8")
    sys.exit(f"{wrong} of {questions} differ." if wrong else None)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
