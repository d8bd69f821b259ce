"""A tiny model that answers, for the tests of answers."""

import pytest


@pytest.fixture(scope="session")
def tokenizer(tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


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
