"""Checkpoints that are published quantized: the scripts load them as transformers can, and say so."""

import pytest

from rankviz.catalog.models import load_model
from rankviz.exports import write
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

IDS = {
    "openai/gpt-oss-20b": "Mxfp4Config",
    "deepseek-ai/DeepSeek-V3": "FineGrainedFP8Config",
    "mistralai/Ministral-3-3B-Instruct-2512": "FineGrainedFP8Config",
    "Qwen/Qwen3-4B-FP8": "FineGrainedFP8Config",
}


def written(model_id, name="trl", **settings):
    return write(load_model(ASSETS, model_id), questions.question(model_id, framework="trl", **settings), 8, name)


@pytest.mark.parametrize("model_id", IDS)
@pytest.mark.parametrize(("name", "precision"), [("trl", "nf4"), ("peft", "bf16")])
def test_the_script_dequantizes_with_the_class_of_the_checkpoint(model_id, name, precision):
    export = written(model_id, name, precision=precision)

    assert f"quantization_config={IDS[model_id]}(dequantize=True)," in export.text
    assert f", {IDS[model_id]}" in export.text.split("model =")[0]
    assert "BitsAndBytesConfig" not in export.text
    (note,) = (note for note in export.notes if "is published in" in note)
    assert ("bit, so the estimate of memory does not apply" in note) is (precision != "bf16")
