"""A small Llama with an education: 1.5 million weights, pretrained here on how English words are spelled and how they
sound, each by itself. Fine-tuning it to turn one into the other is hard enough that rank matters between runs.
"""

import json
import random
from pathlib import Path

from tests.support.models.tiny_llama import make_tiny_llama

ROOT = Path(__file__).parents[1]
STEPS, BATCH, LENGTH, LEARNING_RATE = 300, 32, 48, 2e-3


def make_small_base(folder: Path) -> Path:
    """Train it and save it in `folder`, which is returned; about a minute on two cores."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    make_tiny_llama(folder)  # for its tokenizer of bytes
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in (ROOT / "assets/data/phonemes.jsonl").read_text().splitlines()]
    texts = [row["prompt"].removeprefix("Pronounce ").removesuffix(":") for row in rows]
    texts += [row["completion"].strip() for row in rows]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=256,
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=3,
            tie_word_embeddings=True,
        )
    )
    chance = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    stream = tokenizer("\n".join(chance.sample(texts, len(texts))))["input_ids"]
    model.train()
    for _ in range(STEPS):
        starts = [chance.randrange(len(stream) - LENGTH) for _ in range(BATCH)]
        ids = torch.tensor([stream[start : start + LENGTH] for start in starts])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.save_pretrained(folder)
    return folder


def write_spelling_data(path: Path) -> Path:
    """The third task: from sounds to spelling, the shipped phonemes the other way round."""
    rows = [json.loads(line) for line in (ROOT / "assets/data/phonemes.jsonl").read_text().splitlines()]
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            word = row["prompt"].removeprefix("Pronounce ").removesuffix(":")
            file.write(json.dumps({"prompt": f"{row['completion'].strip()} =", "completion": f" {word}"}) + "\n")
    return path
