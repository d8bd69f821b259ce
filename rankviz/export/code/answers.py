"""Holds the Python templates that show what the training has changed: answers from before and after, and its size."""

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
