"""The MoE scheme "unsloth" and Unsloth's "all-linear", compared with its own functions on the meta device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.lora.unsloth import takes_all_linear_literally
from rankviz.errors import InvalidSettingError

pytestmark = pytest.mark.torch

TESTS = Path(__file__).parents[2]
ASSETS = TESTS.parent / "assets"
TARGETS = (
    UNSLOTH_SEVEN,
    UNSLOTH_SEVEN[4:],
    ("q_proj", "o_proj"),
    ("q_proj", "gate_proj"),
    ("down_proj",),
    ("gate", "o_proj"),
    ("o_proj", "w1", "w2", "w3"),
    ("mlp.gate_proj", "o_proj"),
)


@pytest.mark.timeout(1800)
def test_unsloth_counts_experts_and_all_linear_as_rankviz_does(tmp_path):
    models = [row for row in load_index(ASSETS) if load_model(ASSETS, row.id).has_experts]
    cases = [(row, targets) for row in models for targets in TARGETS]
    # Where "all-linear" goes to PEFT as it is, test_counts_against_peft.py has compared it.
    cases += [
        (row, "all-linear") for row in load_index(ASSETS) if not takes_all_linear_literally(load_model(ASSETS, row.id))
    ]
    questions = [
        {
            "config": str(ASSETS / "configs" / row.file.replace(".whole.json", ".full.json")),
            "target_modules": targets,
            "r": 4,
        }
        for row, targets in cases
    ]

    finished = subprocess.run(
        [sys.executable, "-m", "tests.support.unsloth_counts"],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
    )

    assert finished.returncode == 0, finished.stderr[-3000:]
    theirs = {
        (row.id, targets): count for (row, targets), count in zip(cases, json.loads(finished.stdout), strict=True)
    }
    ours = {(row.id, targets): _count(row.id, targets) for row, targets in cases}
    # Unsloth reaches into Gemma 4's clippable layers by a patch inside get_peft_model, which this doesn't run.
    clippable = {row.id for row in load_index(ASSETS) if load_model(ASSETS, row.id).clippable_linears}
    # In Conv1D layers Unsloth finds nothing: RankViz gives PEFT's count and says so.
    conv1d = {case for case in theirs if any(a.kind == "conv1d" for a in load_model(ASSETS, case[0]).layers)}
    assert {None} == {theirs[case] for case in conv1d}
    assert 4 * 147_456 == ours["openai-community/gpt2", "all-linear"]
    compared = {case for case in theirs if case[0] not in clippable or theirs[case] is not None} - conv1d
    assert {case: theirs[case] for case in compared} == {case: ours[case] for case in compared}
    assert len(compared) >= len(cases) - (1 + len(TARGETS)) * len(clippable) - len(conv1d)
    assert 642_514_944 // 4 == theirs["Qwen/Qwen3-30B-A3B", UNSLOTH_SEVEN]


def _count(model_id: str, targets) -> int | None:
    lora = LoraConfig(target_modules=targets)
    try:
        return resolve(load_model(ASSETS, model_id), lora, "unsloth").parameters(4)
    except InvalidSettingError:
        return None
