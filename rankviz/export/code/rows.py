"""Holds the Python templates around the user's files: the settings at the top of a script, the data, and for Colab the
file to upload and the adapter to download.

All forms that RankViz reads become token ids with a mask of what is learned, by the functions of RankViz's own runs,
and the trainers take them as they are. Left to itself, TRL stops at the chats of models that it has no training
template for, and no trainer learns where an answer ends if the template writes no end, as GLM-4's does not.
"""

import inspect

from rankviz.dataset import tokens

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

TOKENS = inspect.getsource(tokens)
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
