"""What the installed Unsloth loads for a name, in a process of its own: it patches PEFT, transformers and TRL.

    UNSLOTH_ALLOW_CPU=1 HF_HUB_OFFLINE=1 python -m tests.support.unsloth_names < question.json

question.json: {"names": [...], "asked_to_load": [...], "models": folder}. Writes the table of that
folder anew, and prints a line of JSON:
{"in_4_bit": {name: repository}, "stays_16_bit": [names]}. The last is asked of FastLanguageModel
and FastModel, which say so before they look for the files.
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

from rankviz.worker.assets.names import loaded_in_4_bit, write_table  # noqa: E402


def stays_16_bit(loader: Any, name: str) -> bool:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(Exception):
        loader.from_pretrained(name, load_in_4bit=True, local_files_only=True)
    return "so 4bit/8bit/fp8 loading is disabled" in printed.getvalue()


def main() -> None:
    question = json.load(sys.stdin)
    write_table(Path(question["models"]), loaded_in_4_bit(question["names"]))
    from unsloth import FastLanguageModel, FastModel
    from unsloth.models.loader_utils import get_model_name

    in_4_bit = {name: get_model_name(name, load_in_4bit=True) for name in question["names"]}
    print(
        json.dumps(
            {
                "in_4_bit": in_4_bit,
                "stays_16_bit": [
                    name
                    for name in question["asked_to_load"]
                    if stays_16_bit(FastLanguageModel, name) and stays_16_bit(FastModel, name)
                ],
            }
        ),
        file=answer,
        flush=True,
    )


if __name__ == "__main__":
    main()
