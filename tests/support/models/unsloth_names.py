"""What the installed Unsloth loads for a name, in a process of its own: it patches PEFT, transformers and TRL.

    UNSLOTH_ALLOW_CPU=1 HF_HUB_OFFLINE=1 python -m tests.support.models.unsloth_names < question.json

question.json: {"names": [...], "asked_to_load": [...], "models": folder}. Writes the table of that folder anew, and
prints a line of JSON: {"in_4_bit": {class: {name: repository}}, "stays_16_bit": {class: [names of asked_to_load]}}.
Both are asked of FastLanguageModel and FastModel themselves, as on an NVIDIA card; nothing is downloaded.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from tools.names import loaded_in_4_bit, write_table  # noqa: E402


class Resolved(Exception):
    """The loader knows which repository it loads."""


def resolved(loader: Any, name: str) -> str:
    """The repository that the loader is about to fetch."""
    seen = []

    def stop(repository: str) -> None:
        seen.append(repository)
        raise Resolved

    with contextlib.suppress(Resolved):
        loader.from_pretrained(name, load_in_4bit=True, on_model_resolved=stop)
    return seen[0]


def stays_16_bit(loader: Any, name: str) -> bool:
    """Whether the loader prints that it does not quantize; then it stops, since there are no files."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(Exception):
        loader.from_pretrained(name, load_in_4bit=True, local_files_only=True)
    return "so 4bit/8bit/fp8 loading is disabled" in printed.getvalue()


def main() -> None:
    question = json.load(sys.stdin)
    names = question["names"]
    write_table(Path(question["models"]), loaded_in_4_bit(names))
    from unsloth import FastLanguageModel, FastModel
    from unsloth.models import loader

    loader.ALLOW_BITSANDBYTES = loader.ALLOW_PREQUANTIZED_MODELS = True  # as on an NVIDIA card
    classes = (FastLanguageModel, FastModel)
    facts = {
        "in_4_bit": {each.__name__: {name: resolved(each, name) for name in names} for each in classes},
        "stays_16_bit": {
            each.__name__: [name for name in question["asked_to_load"] if stays_16_bit(each, name)] for each in classes
        },
    }
    print(json.dumps(facts), file=answer, flush=True)


if __name__ == "__main__":
    main()
