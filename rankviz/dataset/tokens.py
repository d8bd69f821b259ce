"""Tokenizes an example for training: its token ids, and which of them are learned.

RankViz's own runs call these functions, and an exported script contains them as they stand here, so both learn the same
tokens. The tokenizer is a fast one of transformers, which knows where in a text each token stands.
"""

OTHER = "\ue000"
"""A character that no text has."""


def as_text(messages, tokenizer, asks=False):
    """Return messages as one text: as the chat template writes them, or without one under the names of their roles.

    asks: whether the assistant is to go on.
    """
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
    blocks = [f"### {each['role'].capitalize()}:\n{each['content']}" for each in messages]
    return "\n\n".join([*blocks, "### Assistant:\n"] if asks else blocks)


def same(one, other):
    """Return how many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def answers_in(chat, tokenizer, given=0):
    """Return a chat as text, and the (start, end) of each answer that is learned in it.

    An answer begins where the model is to go on, or else where the text depends on it, and ends where the text depends
    on it no more. given: how many messages at the beginning are not learned.
    """
    text, answers = as_text(chat, tokenizer), []
    for i, turn in enumerate(chat):
        if i >= given and turn["role"] == "assistant" and turn["content"]:
            other = as_text([*chat[:i], {**turn, "content": OTHER}, *chat[i + 1 :]], tokenizer)
            if OTHER not in other:
                raise ValueError("This chat template leaves out answers: rows must be prompt and completion, as text.")
            asked = as_text(chat[:i], tokenizer, asks=True) if i else ""
            start = len(asked) if asked and text.startswith(asked) else same(text, other)
            answers.append((start, len(text) - same(text[::-1], other[::-1])))
    return text, answers


def with_ends(text, answers, tokenizer, is_chat):
    """Return the token ids of a text, and a mask: 1 for the tokens of each answer and of the mark that ends it, else 0.

    The mark is the special token behind an answer. Where the template writes none behind the last one, or there is no
    template, the text ends there with the tokenizer's end token.
    """
    begins = is_chat or text.startswith(tokenizer.bos_token or OTHER)  # then it has its first token already
    encoded = tokenizer(text, add_special_tokens=not begins, return_offsets_mapping=True)
    ids, places = list(encoded["input_ids"]), encoded["offset_mapping"]
    added = tokenizer.get_added_vocab()  # of some tokenizers also line breaks and spaces
    marks = {*tokenizer.all_special_ids, *(number for token, number in added.items() if token.strip())}
    mask = [int(any(at < end and to > start for start, end in answers)) for at, to in places]
    for number, (_, end) in enumerate(answers, 1):
        after = max((i + 1 for i, (at, to) in enumerate(places) if at < end and to > at), default=0)
        mark = next((i for i in range(after, len(ids)) if ids[i] in marks), None)
        is_last = number == len(answers)
        if mark is not None and (is_last or not text[end : places[mark][0]].strip()):
            mask[after : mark + 1] = [1] * (mark + 1 - after)
        elif is_last and tokenizer.eos_token_id is not None and ids[after - 1] != tokenizer.eos_token_id:
            ids[after:], mask[after:] = [tokenizer.eos_token_id], [1]
    return ids, mask
