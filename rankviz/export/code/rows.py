"""Holds the Python templates around the user's files: the settings at the top of a script, the data, and for Colab the
file to upload and the adapter to download.

All four forms that RankViz reads become prompt and completion, or whole chats, so that the end token is learned in
each: Unsloth tokenizes a column "text" as it is, without one (unsloth_zoo 2026.10.9, dataset_utils, in
sft_prepare_dataset). A base model without a chat template gets chats as RankViz's own runs write them.
"""

SETTINGS = """\
{about}data_file = {file}  # .jsonl, .json, .csv or .parquet
form = {form}
"""

FILE_NAME = "train.jsonl"
"""Where the user's file is not known."""
FORM_UNKNOWN = """None  # taken from the columns; or "messages", "prompt-completion", "instruction" or "text\""""

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

DATA = '''\
COLUMNS = {{
    "messages": ["messages"],
    "prompt-completion": ["prompt", "completion"],
    "instruction": ["instruction", "output"],
    "text": ["text"],
}}
ROLES = {{"human": "user", "gpt": "assistant"}}  # of ShareGPT
ending = data_file.rpartition(".")[2].lower()
TEXTS = ("messages", "conversations", "prompt", "completion", "instruction", "input", "output", "text")
as_text = {{name: str for name in TEXTS}}
csv = {{"keep_default_na": False, "converters": as_text}} if ending == "csv" else {{}}  # a cell with 4 or NA is text
rows = load_dataset("json" if ending == "jsonl" else ending, data_files=data_file, split="train", **csv)
if "conversations" in rows.column_names and "messages" not in rows.column_names:  # ShareGPT
    rows = rows.rename_column("conversations", "messages")
if form is None:
    form = next((name for name, columns in COLUMNS.items() if set(columns) <= set(rows.column_names)), None)
if form is None:
    raise ValueError(f"{{data_file}} has the columns {{rows.column_names}}. Rename them to one form of {{COLUMNS}}.")


def as_trained(row):
    """A row as prompt and completion, or as a whole chat."""
    if form == "text":
        return {{"prompt": "", "completion": row["text"]}}
    if form == "prompt-completion":
        return {{"prompt": row["prompt"], "completion": row["completion"]}}
    if form == "instruction":
        request = "\\n\\n".join(str(part) for part in (row["instruction"], row.get("input")) if part)
        chat = [{{"role": "user", "content": request}}, {{"role": "assistant", "content": str(row["output"])}}]
    else:
        chat = json.loads(row["messages"]) if isinstance(row["messages"], str) else row["messages"]
        if any(turn.get("from") for turn in chat):
            chat = [{{"role": ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}} for turn in chat]
        answers = [i for i, turn in enumerate(chat) if turn["role"] == "assistant" and turn["content"]]
        if not answers:
            raise ValueError(f"This chat has no answer of the assistant. Remove its row: {{chat}}")
        chat = chat[: answers[-1] + 1]  # after the last answer nothing is learned
    if not tokenizer.chat_template:  # a base model
        text = "".join(f"### {{turn['role'].capitalize()}}:\\n{{turn['content']}}\\n\\n" for turn in chat[:-1])
        return {{"prompt": text + "### Assistant:\\n", "completion": chat[-1]["content"]}}
    return {{"messages": chat}} if form == "messages" else {{"prompt": chat[:-1], "completion": chat[-1:]}}


rows = rows.map(as_trained, remove_columns=rows.column_names)
rows = rows.train_test_split(test_size={held_out_share}, seed={seed})
'''
