"""One tiny Llama and one sweep on it, as the page launches one, for all tests of the worker."""

import pytest

from rankviz.store import RunStore
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.runs.tiny_runs import letters, run_to_the_end


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return make_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def swept(tiny, tmp_path_factory):
    """A sweep of three ranks, and the highest truncated to three more; each adapter answers eight prompts."""
    store = RunStore(tmp_path_factory.mktemp("home"))
    data = write_tiny_data(store.home / "letters.jsonl")
    sweep_id = store.create(letters(tiny, data, 4, 8, 16, cut_ranks=(1, 4, 8), exact_match_examples=8))
    run_to_the_end(store)
    return store, store.sweep(sweep_id)


@pytest.fixture(scope="session")
def answering(tiny):
    """A tiny Llama with larger weights, so that answers differ from prompt to prompt and some end."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(0, 0.3)
        model.lm_head.weight[2] *= 1.5
    return model
