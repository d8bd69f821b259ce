"""`make test-counts`: a tiny checkpoint of every family through Unsloth's real loader, beside RankViz's own numbers.

Each is loaded in 16 bit and in 4, whole and, where it is multimodal, with text_only=True too; each time the bytes of
every part of the base and the parameters that get_peft_model trains must be RankViz's. What was loaded is written to
LOADED, which `make test` compares with, and a table of it into docs/method.md.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from docs.generate.markdown import replace_block
from rankviz.catalog.hardware import load_assumptions
from rankviz.core.cost.memory import component_of, unsloth_bytes
from rankviz.core.cost.setup import TrainingSetup, card
from rankviz.core.cost.stack import Stack, settled
from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import as_loaded, offers_text_only, second_towers
from rankviz.errors import InvalidSettingError
from rankviz.paths import ASSETS, IMPORT_ROOT

LOADED = Path(__file__).parent / "support" / "models" / "unsloth_loads.jsonl"
PAGE = IMPORT_ROOT / "docs" / "method.md"
R = 16
TARGETS = {"the seven": UNSLOTH_SEVEN, "all-linear": "all-linear"}


def loads(folders: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """What to load, in order. folders: by family."""
    for family, folder in folders.items():
        multimodal = "vision_config" in json.loads((folder / "config.json").read_bytes())
        for four_bit in (True, False):
            for text_only in (False, True) if multimodal else (False,):
                yield {"family": family, "folder": str(folder), "four_bit": four_bit, "text_only": text_only}


def theirs(asked: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What Unsloth loads, an answer a load."""
    questions = [
        {
            "folder": each["folder"],
            "from_pretrained": {"load_in_4bit": each["four_bit"], "text_only": each["text_only"]},
            "get_peft_model": [{"r": R, "target_modules": names} for names in TARGETS.values()],
        }
        for each in asked
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.models.unsloth_loads"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=IMPORT_ROOT,
        env=os.environ | {"UNSLOTH_ALLOW_CPU": "1", "HF_HUB_OFFLINE": "1"},
    )
    process.stdin.write(json.dumps(questions))
    process.stdin.close()
    yield from map(json.loads, process.stdout)
    process.wait()


def by_component(spec: ModelSpec, parameters: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of loaded parameters by RankViz's parts of a base. parameters: by name, [class, dtype, bytes]."""
    parts = {
        layer.path.replace("{}", str(block)): component_of(layer)
        for layer in spec.layers
        for block in layer.blocks or ("",)
    }
    towers = second_towers(spec)
    found: dict[str, int] = {}
    for name, (_, _, size) in parameters.items():
        # An expert stack is named by itself, a layer's weight by its module.
        part = parts.get(name) or (parts.get(name.removesuffix(".weight")) if name.endswith(".weight") else None)
        part = part or ("towers" if name.startswith(towers) else "rest")
        found[part] = found.get(part, 0) + size
    return found


def ours(spec: ModelSpec, *, four_bit: bool, text_only: bool) -> dict[str, Any]:
    """Bytes by part and trained parameters by targets as RankViz has them. spec: of the checkpoint's config.json."""
    precision = "nf4-dq" if four_bit else "bf16"
    lora = LoraConfig(r=R, text_only=text_only and (offers_text_only(spec) or not spec.is_whole))
    model = as_loaded(spec, text_only=lora.text_only, unsloth_on_gpu=True)
    stack = Stack(setup=TrainingSetup(precision=precision), use_dora=False, assume=load_assumptions(ASSETS))
    counts = {}
    for name, targets in TARGETS.items():
        adapter = LoraConfig(r=R, target_modules=targets, text_only=lora.text_only)
        try:
            counts[name] = resolve(spec, adapter, "unsloth", precision=precision).parameters(R)
        except InvalidSettingError:
            counts[name] = None
    sizes = unsloth_bytes(model, settled(stack, model, card(None)))
    return {"bytes": {part: size for part, size in sizes.items() if size}, "trained": counts}


def recorded(each: Mapping[str, Any], answer: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """One load as a line of LOADED."""
    line = {name: each[name] for name in ("family", "four_bit", "text_only")}
    if "parameters" not in answer:
        return line | {"refused": answer["refused"]}
    text_alone = each["text_only"] and (offers_text_only(spec) or not spec.is_whole)
    model = as_loaded(spec, text_only=text_alone, unsloth_on_gpu=True)
    counts = (trained.get("count") for trained in answer["trainable"])
    return line | {
        "class": answer["class"],
        "bytes": by_component(model, answer["parameters"]),
        "trained": dict(zip(TARGETS, counts, strict=True)),
    }


def differences(line: Mapping[str, Any], spec: ModelSpec) -> list[str]:
    """Where RankViz has other numbers than a line of LOADED, in words."""
    if "refused" in line:
        return [f"not loaded: {line['refused']}"]
    mine = ours(spec, four_bit=line["four_bit"], text_only=line["text_only"])
    names = {"bytes": "bytes of {}", "trained": "parameters of {}"}
    return [
        f"{names[kind].format(part)}: {mine[kind].get(part)} instead of {line[kind].get(part)}"
        for kind in names
        for part in {**line[kind], **mine[kind]}
        if line[kind].get(part) != mine[kind].get(part)
    ]


def in_words(lines: list[Mapping[str, Any]]) -> str:
    """How many numbers of how many loads were the same."""
    families = {line["family"] for line in lines}
    numbers = sum(len(line.get("bytes", ())) + len(line.get("trained", ())) for line in lines)
    return f"{len(families)} families, {len(lines)} loads: {numbers} of {numbers} numbers are equal."


def main(only: Sequence[str]) -> int:
    """only: families; without any, all of them, and the results are written."""
    from rankviz.worker.introspect.layers import layers_of
    from tests.support.models.tiny_families import families, write

    lines, wrong = [], []
    with TemporaryDirectory() as home:
        folders, specs = {}, {}
        for family, name in families().items():
            if only and family not in only:
                continue
            folders[family] = write(name, Path(home, name))
            specs[family] = layers_of(json.loads((folders[family] / "config.json").read_bytes()))
        asked = list(loads(folders))
        for each, answer in zip(asked, theirs(asked), strict=True):
            line = recorded(each, answer, specs[each["family"]])
            lines.append(line)
            found = differences(line, specs[each["family"]])
            how = f"{'4' if line['four_bit'] else '16'} bit{', text only' if line['text_only'] else ''}"
            print(f"{line['family']}, {how}: {'; '.join(found) or 'equal'}", flush=True)
            wrong += found
    if wrong:
        return 1
    if not only:
        LOADED.write_text("".join(json.dumps(line) + "\n" for line in lines))
        PAGE.write_text(replace_block(PAGE.read_text(), "loads", in_words(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
