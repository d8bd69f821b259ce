"""The table of what Unsloth loads in 4 bit, for every name of the catalogue, beside the installed Unsloth."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from rankviz.catalog.models import CHECKPOINTS, load_model
from rankviz.paths import IMPORT_ROOT
from tests.support.runs.toy import ASSETS
from tools.names import every_name

pytestmark = pytest.mark.torch

ASKED_TO_LOAD = ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "Qwen/Qwen3-0.6B")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for file in (CHECKPOINTS, "index.json"):
        shutil.copy(ASSETS / "models" / file, folder)
    return folder


@pytest.fixture(scope="module")
def unsloth(folder):
    question = {"names": every_name(folder), "asked_to_load": ASKED_TO_LOAD, "models": str(folder)}
    program = subprocess.run(
        [sys.executable, "-m", "tests.support.models.unsloth_names"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT), "UNSLOTH_ALLOW_CPU": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert program.returncode == 0, program.stderr[-3000:]
    return json.loads(program.stdout.splitlines()[-1])


@pytest.mark.parametrize("unsloth_class", ("FastLanguageModel", "FastModel"))
def test_every_name_of_the_catalogue_stands_for_what_unsloth_loads(unsloth, unsloth_class):
    """Ids and aliases alike."""
    theirs = unsloth["in_4_bit"][unsloth_class]
    ours = {}
    for name in theirs:
        checkpoint = load_model(ASSETS, name).unsloth_checkpoint
        ours[name] = checkpoint.repository if checkpoint else name

    assert theirs == ours
    assert 561 == len(ours)


def test_the_table_is_what_the_script_writes(unsloth, folder):
    shipped, made = (json.loads((each / CHECKPOINTS).read_text()) for each in (ASSETS / "models", folder))

    assert shipped == made | {"checked": shipped["checked"]}
