"""The Python templates of the scripts for Unsloth, TRL and plain PEFT; script.py fills them in."""

import inspect

from rankviz.dataset import rows

UNSLOTH_IMPORTS = """\
import json
from pathlib import Path

{torch}from unsloth import {loader}  # before trl, which it patches
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
"""

UNSLOTH_MODEL = """\
model, tokenizer = {loader}.from_pretrained(
    model_name={model_id!r},
    max_seq_length={max_length},
    load_in_4bit={load_in_4bit},
    load_in_8bit={load_in_8bit},{dtype}
)
"""

UNSLOTH_ADAPTER = """\
model = {loader}.get_peft_model(
    model,
    r={r},
    lora_alpha={lora_alpha},
    target_modules={target_modules},
    lora_dropout=0,  # 0 and "none" keep Unsloth's fast path
    bias="none",
    use_gradient_checkpointing={use_gradient_checkpointing},
    use_rslora={use_rslora},
    modules_to_save={modules_to_save},
    random_state={seed},{extra}
)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
"""

UNSLOTH_TRAIN = """\
trainer.train()
model.save_pretrained("adapter")
tokenizer.save_pretrained("adapter")
"""

UNSLOTH_AFTERWARDS = """\
# Base and adapter as one 16-bit model, a GGUF file for llama.cpp and Ollama, the adapter on the Hub:
# model.save_pretrained_merged("merged", tokenizer, save_method="merged_16bit")
# model.save_pretrained_gguf("gguf", tokenizer, quantization_method="q4_k_m")
# model.push_to_hub("your-name/your-adapter")
"""

UNSLOTH_EXPERTS = """\
# Plain PEFT {peft} takes names in this adapter's configuration for those of experts at rank 2r, and stops or trains
# something else. It loads the adapter as it was trained with this, after the base model and before the adapter:
# from peft.utils import transformers_weight_conversion as conversion
# conversion._convert_peft_config_moe = lambda config, model: None
# PeftModel.from_pretrained(base, "adapter")
"""

TRL_IMPORTS = """\
import json
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import {auto_class}, AutoTokenizer{quantization}, set_seed
from trl import SFTConfig, SFTTrainer
"""

TOKENIZER = """\
tokenizer = AutoTokenizer.from_pretrained({model_id!r})
"""

MODEL = """\
{dtype}model = {auto_class}.from_pretrained(
    {model_id!r},
    dtype=dtype,{more}
)
"""

FOUR_BIT = """
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant={double_quantization},
        bnb_4bit_compute_dtype=dtype,
    ),"""

LORA = """\
lora = LoraConfig(
    r={r},
    lora_alpha={lora_alpha},
    target_modules={target_modules},
    lora_dropout=0,
    bias="none",
    use_rslora={use_rslora},
    use_dora={use_dora},
    modules_to_save={modules_to_save},
    task_type="CAUSAL_LM",{extra}
)
"""

TRAINER = """\
trainer = SFTTrainer(
    model=model,
    {with_model},
    train_dataset=data["train"],
    eval_dataset=data["test"],
    args=SFTConfig(
        output_dir="outputs",
        max_length={max_length},
        completion_only_loss=True,  # by completion_mask
        per_device_train_batch_size={per_device_train_batch_size},
        per_device_eval_batch_size={per_device_train_batch_size},
        gradient_accumulation_steps={gradient_accumulation_steps},
{more}        {length}
        learning_rate={learning_rate!r},
        lr_scheduler_type="{scheduler}",
        warmup_steps={warmup_steps},
        weight_decay={weight_decay},
        optim={optim!r},
        seed={seed},
        eval_strategy="steps",
        eval_steps={eval_steps},  # of all steps
        logging_steps={logging_steps},
        report_to="none",
    ),
)
"""

RAISED = """\
if dtype != torch.bfloat16:  # {now}, and fp16's gradient scaler takes fp32 alone
    for parameter in {model}.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
"""

TRL_TRAIN = """\
trainer.model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
trainer.train()
trainer.save_model("adapter")  # with the tokenizer
"""

AFTERWARDS = """\
# Base and adapter as one model, the adapter as a GGUF file for llama.cpp (in a shell), the adapter on the Hub:
# from peft import PeftModel
# base = {auto_class}.from_pretrained({model_id!r}, dtype={dtype}{more})
# PeftModel.from_pretrained(base, "adapter").merge_and_unload().save_pretrained("merged")
# python llama.cpp/convert_lora_to_gguf.py adapter
# {model}.push_to_hub("your-name/your-adapter")
"""


SHOWN_ROWS = 4
NEW_TOKENS = 128

BEFORE = '''\
def asked(row):
    """(prompt, expected answer) of a row; of plain text, its first words and the rest."""
    if "messages" in row:
        return row["messages"][:-1], row["messages"][-1]["content"]
    if not row["prompt"]:
        words = row["completion"].split(" ")
        return " ".join(words[:8]), " ".join(words[8:])
    return row["prompt"], row["completion"]


shown = rows["test"].filter(lambda row: bool(asked(row)[0]))  # a chat may begin with its answer
shown = shown.select(range(min({shown_rows}, len(shown))))


def answer(row):
    prompt = asked(row)[0]
    if not isinstance(prompt, str) and not reader.chat_template:
        prompt = as_text(prompt, reader, asks=True)
    if isinstance(prompt, str):
        tokens = reader(prompt, return_tensors="pt")
    else:
        tokens = reader.apply_chat_template(
            prompt, add_generation_prompt=True, enable_thinking=False, return_dict=True, return_tensors="pt"
        )
    was_training = model.training
    model.eval()
    made = model.generate(**tokens.to(model.device), max_new_tokens={new_tokens}, do_sample=False)
    model.train(was_training)
    return reader.decode(made[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip()


before = [answer(row) for row in shown]
'''

AFTER = """\
for row, old in zip(shown, before):
    prompt, expected = asked(row)
    print("=" * 80)
    print("PROMPT  ", prompt if isinstance(prompt, str) else prompt[-1]["content"])
    print("EXPECTED", expected)
    print("BEFORE  ", old)
    print("AFTER   ", answer(row))
print("=" * 80)
size = Path("adapter/adapter_model.safetensors").stat().st_size
print(f"The adapter has {{size:,}} bytes.{counted}")
"""


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

PEFT_MODEL = """\
set_seed({seed})
tokenizer = AutoTokenizer.from_pretrained({model_id!r})
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
"""

WRAP = """\
model = get_peft_model(model, lora)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
"""

PEFT_DATA = '''\


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


SETTINGS = """\
{about}data_file = {file}  # .jsonl, .json, .csv or .parquet
form = {form}
"""

FORM_UNKNOWN = (
    """None  # taken from the columns; or "messages", "conversations", "prompt-completion", "instruction" or "text\""""
)

UPLOAD = """
from pathlib import Path

if not Path(data_file).exists():
    from google.colab import files

    print("Choose the file with your examples.")
    data_file = next(iter(files.upload()))
"""

DOWNLOAD = """\
# Colab deletes its files when the session ends.
import shutil
import sys

archive = shutil.make_archive("adapter", "zip", "adapter")
if "google.colab" in sys.modules:
    from google.colab import files

    files.download(archive)
"""

TOKENS = inspect.getsource(rows)
TOKENS = TOKENS[TOKENS.index("OTHER =") :].replace("{", "{{").replace("}", "}}")
"""The functions by which RankViz's own runs tokenize, as they stand."""

DATA = (
    '''\
COLUMNS = {{
    "messages": ["messages"],
    "conversations": ["conversations"],
    "prompt-completion": ["prompt", "completion"],
    "instruction": ["instruction", "output"],
    "text": ["text"],
}}
ROLES = {{"human": "user", "gpt": "assistant"}}  # of ShareGPT
ending = data_file.rpartition(".")[2].lower()
TEXTS = ("messages", "conversations", "prompt", "completion", "instruction", "input", "output", "text")
csv = {{"keep_default_na": False, "converters": dict.fromkeys(TEXTS, str)}}  # a cell with 4 or NA is text
more = csv if ending == "csv" else {{}}
rows = load_dataset("json" if ending == "jsonl" else ending, data_files=data_file, split="train", **more)
if form is None:
    form = next((name for name, columns in COLUMNS.items() if set(columns) <= set(rows.column_names)), None)
if form is None:
    raise ValueError(f"{{data_file}} has the columns {{rows.column_names}}. Rename them to one form of {{COLUMNS}}.")


def text_of(value):
    """A cell as RankViz reads it: whole numbers are text too."""
    if isinstance(value, (list, dict)):
        raise ValueError(f"A text must be text: {{value}}. Write each message as one text.")
    return "" if value is None else str(value)


def messages(cell):
    """A list of messages, or the JSON of one, with the names of OpenAI's chats."""
    chat = []
    for turn in json.loads(cell) if isinstance(cell, str) else cell:
        role, content = ("role", "content") if turn.get("role") else ("from", "value")
        more = {{key: value for key, value in turn.items() if key not in (role, content) and value is not None}}
        chat.append({{"role": ROLES.get(turn[role], turn[role]), "content": text_of(turn[content]), **more}})
    return chat


def as_trained(row):
    """A row as prompt and completion, or as a chat of whose messages the first ones, `given`, are not learned."""
    if form == "text":
        return {{"prompt": "", "completion": text_of(row["text"])}}
    if form == "prompt-completion" and not isinstance(row["prompt"], list):
        return {{"prompt": text_of(row["prompt"]), "completion": text_of(row["completion"])}}
    given = 0
    if form == "prompt-completion":
        chat, given = messages(row["prompt"]) + messages(row["completion"]), len(row["prompt"])
    elif form == "instruction":
        request = "\\n\\n".join(filter(None, [text_of(row["instruction"]), text_of(row.get("input"))]))
        chat = [{{"role": "user", "content": request}}, {{"role": "assistant", "content": text_of(row["output"])}}]
    else:
        chat = messages(row[form])
    answers = [i for i, turn in enumerate(chat) if turn["role"] == "assistant" and turn["content"] and i >= given]
    if not answers:
        raise ValueError(f"This chat has no answer of the assistant. Remove its row: {{chat}}")
    return {{"messages": chat[: answers[-1] + 1], "given": given}}  # after the last answer nothing is learned


rows = rows.from_list([as_trained(row) for row in rows])  # map would make numbers of texts again
rows = rows.train_test_split(test_size={held_out_share}, seed={seed})
reader = getattr(tokenizer, "tokenizer", tokenizer)  # a multimodal model has a processor around it
reader.chat_template = tokenizer.chat_template or reader.chat_template
'''
    + TOKENS
    + '''

def tokenize(row):
    """Token ids, and 1 for those that are learned: the answers, each with the token that ends it."""
    if "messages" in row:
        chat = [{{key: value for key, value in turn.items() if value is not None}} for turn in row["messages"]]
        text, answers = answers_in(chat, reader, row["given"])
    else:
        text = row["prompt"] + row["completion"]
        answers = [(len(row["prompt"]), len(text))]
    ids, mask = with_ends(text, answers, reader, "messages" in row and bool(reader.chat_template))
    return {{"input_ids": ids[:{max_length}], "completion_mask": mask[:{max_length}], "length": len(ids)}}


data = rows.map(tokenize, remove_columns=rows["train"].column_names)
longer = sum(length > {max_length} for part in data.values() for length in part["length"])
print(f"{{longer}} of {{sum(map(len, data.values()))}} rows are longer than {max_length} tokens and are truncated.")
data = data.remove_columns("length").filter(lambda row: any(row["completion_mask"][1:]))  # a prompt can fill it all
if not all(map(len, data.values())):
    raise ValueError("No answer begins within {max_length} tokens: raise the maximum length, or add shorter rows.")
'''
)
