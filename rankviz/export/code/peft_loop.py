"""Holds the Python templates of the plain PEFT script: tokens and labels, batches, and a training loop in torch."""

IMPORTS = """\
import json
import math
from pathlib import Path

import torch
{optimizer_import}from datasets import load_dataset
from peft import LoraConfig, get_peft_model{preparation}
from torch.utils.data import DataLoader
from transformers import {auto_class}, AutoTokenizer{quantization}
from transformers import DataCollatorForSeq2Seq, get_scheduler, set_seed
"""

MODEL = """\
set_seed({seed})
tokenizer = AutoTokenizer.from_pretrained({model_id!r})
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
"""

WRAP = """\
model = get_peft_model(model, lora)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
"""

DATA = '''\


def labelled(row):
    """The same tokens with labels: -100 is not learned."""
    labels = [token if learned else -100 for token, learned in zip(row["input_ids"], row["completion_mask"])]
    return {{"input_ids": row["input_ids"], "labels": labels}}


data = data.map(labelled, remove_columns="completion_mask")
collate = DataCollatorForSeq2Seq(tokenizer)
train = DataLoader(data["train"], batch_size={per_device_train_batch_size}, shuffle=True, collate_fn=collate)
held_out = DataLoader(data["test"], batch_size={per_device_train_batch_size}, collate_fn=collate)
'''

TRAIN = """\
{loop_length}
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = {optimizer}(trained, lr={learning_rate!r}, weight_decay={weight_decay})
warmup_steps = round({warmup_share} * max_steps)
scheduler = get_scheduler("{scheduler}", optimizer, num_warmup_steps=warmup_steps, num_training_steps=max_steps)
scaler = torch.amp.GradScaler(model.device.type, enabled=dtype == torch.float16)


def loss_of(batch):
    with torch.autocast(model.device.type, dtype=dtype, enabled=dtype != torch.float32):
        return model(**batch.to(model.device), use_cache=False).loss


def held_out_loss():
    model.eval()
    with torch.no_grad():
        losses = [loss_of(batch).item() for batch in held_out]
    model.train()
    return torch.tensor(losses).mean().item()


def endless(loader):
    while True:
        yield from loader


model.train()
batches = endless(train)
for step in range(1, max_steps + 1):
    step_loss = 0.0
    for _ in range({gradient_accumulation_steps}):
        loss = loss_of(next(batches)) / {gradient_accumulation_steps}
        scaler.scale(loss).backward()
        step_loss += loss.item()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    optimizer.zero_grad()
    if step == 1 or step % {logging_steps} == 0:
        print(f"step {{step}}: loss {{step_loss:.4f}}")
    if step % max(1, round({eval_steps} * max_steps)) == 0:
        print(f"step {{step}}: held-out loss {{held_out_loss():.4f}}")
"""

SAVE = """\
model.save_pretrained("adapter")
tokenizer.save_pretrained("adapter")
"""

OPTIMIZERS = {
    "adamw_8bit": "AdamW8bit",
    "paged_adamw_8bit": "PagedAdamW8bit",
    "adamw_torch": "torch.optim.AdamW",
    "sgd": "torch.optim.SGD",
}
"""TrainingArguments' name of an optimizer to its class: the first two are bitsandbytes' own."""
