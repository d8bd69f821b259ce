"""A run on the text of a multimodal checkpoint, through the true worker: its other tower stays as it is."""

import pytest

from rankviz.core.runs.record import RunState
from rankviz.store import RunStore
from tests.support.models.tiny_llama import save_tokenizer, write_tiny_data
from tests.support.runs.tiny_runs import letters, run_to_the_end

pytestmark = pytest.mark.torch

TEXT = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "max_position_embeddings": 512,
    "layer_types": ["sliding_attention", "full_attention"],
    "initializer_range": 0.1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """Gemma 3 with its vision tower, which has projections named as those of the text model."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    folder = tmp_path_factory.mktemp("tiny-gemma")
    save_tokenizer(folder)
    torch.manual_seed(0)
    tokens = {"image_token_index": 300, "boi_token_index": 301, "eoi_token_index": 302}
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 3}
    config = Gemma3Config(text_config=TEXT | ends, vision_config=VISION, mm_tokens_per_image=4, **tokens, **ends)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_only_the_text_model_of_a_multimodal_checkpoint_is_trained(gemma, tmp_path):
    from safetensors import safe_open

    store = RunStore(tmp_path)
    sweep_id = store.create(letters(gemma, write_tiny_data(tmp_path / "letters.jsonl"), 4))
    run_to_the_end(store)
    (run,) = store.sweep(sweep_id).runs

    assert RunState.COMPLETED == run.state, run.error + run.log_tail
    # r = 4 in 2 blocks: q and o 64 + 64, k and v 64 + 32, gate, up and down 64 + 96.
    assert 4 * 2 * (2 * 128 + 2 * 96 + 3 * 160) == run.trainable_parameters
    with safe_open(store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors", "pt") as tensors:
        assert {"language_model"} == {name.split(".")[3] for name in tensors.keys()}  # noqa: SIM118
    assert run.loss_after.loss < run.loss_before.loss - 0.3
