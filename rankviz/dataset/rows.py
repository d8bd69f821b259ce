"""Turns a row of training data into an example, by its columns, and tokenizes the example for training."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal
from urllib.parse import quote, unquote

from rankviz.errors import BadDataError, InvalidSettingError, quoted

SHOWN_COLUMNS = 10
SHOWN_CHARACTERS = 40
HALVES = re.compile("[\ud800-\udfff]")  # half of a surrogate pair, which cannot be written to a file

NUMBER = re.compile(r"\s*[-+]?[\d.]+\s*")  # pattern of a CSV cell that other programs read as a number

ROLES = {"human": "user", "gpt": "assistant"}  # role of a message by ShareGPT's name for it

Format = Literal["messages", "conversations", "prompt-completion", "instruction", "text", "prompt"]

REQUIRED: dict[Format, tuple[str, ...]] = {
    "messages": ("messages",),
    "conversations": ("conversations",),
    "prompt-completion": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "text": ("text",),
}
"""Columns of each format with answers. Formats are tried in this order on the first row."""
PROMPTS = ("messages", "conversations", "instruction", "prompt", "text")
"""Columns of prompts by `as_prompt`, the first one first. Rows for rewards (GRPO) have the format "prompt"."""
OPTIONAL = ("input", "system")
"""Further columns of the format "instruction": text behind the instruction, and the system's message."""
USUAL_NAMES = {
    "output": "output response completion reply solution answer answers chosen assistant bot gpt target target_text "
    "output_text model_output expected_output assistant_response summary a",
    "instruction": "instruction question prompt query problem user human request user_prompt source input_text input q "
    "article document",
    "input": "input context passage background knowledge document",
    "system": "system system_prompt system_message",
    "messages": "conversation dialogue dialog chat turns",
    "text": "content body story",
}
"""Usual names of columns by RankViz's own, in small letters, the most usual first."""
MAX_COLUMN = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One row of training data. With messages it is a chat, which the model's chat template formats; the assistant's
    turns are learned. Without messages, prompt and completion are joined unchanged, and the completion is learned."""

    prompt: str = ""
    completion: str = ""
    messages: tuple[tuple[str, str], ...] = ()  # (role, content) of each turn; the last turn is the assistant's
    turns_left_out: int = 0
    """Number of turns after the assistant's last answer, which are left out because nothing is learned from them."""

    @property
    def has_prompt(self) -> bool:
        """True where there is text before the last learned text."""
        return len(self.messages) > 1 if self.messages else bool(self.prompt.strip())

    def as_pair(self) -> tuple[str, str]:
        """Return (prompt, answer): the text that the model gets, and the text that it learns."""
        if not self.messages:
            return self.prompt, self.completion
        return "\n".join(f"{role}: {content}" for role, content in self.messages[:-1]), self.messages[-1][1]


def columns_of(text: str) -> dict[str, str]:
    """Return the file's columns by RankViz's names, from text such as "instruction=Question,output=Answer". Special
    characters of the file's names are percent-encoded."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    columns = {role.strip(): unquote(column.strip()) for role, _, column in pairs}
    roles = {*OPTIONAL, *chain(*REQUIRED.values()), "answer"}
    if text and not (columns.keys() <= roles and all(columns.values()) and columns.keys() & {*PROMPTS}):
        raise InvalidSettingError(
            f"Columns must be such as instruction=question,output=answer (got {quoted(text)}); before = stands one of "
            f"{', '.join(sorted(roles))}."
        )
    return columns


def columns_text(columns: Mapping[str, str]) -> str:
    """Return columns as the text that `columns_of` reads."""
    return ",".join(
        f"{role}={quote(column, safe=' ' * (column == column.strip()))}" for role, column in columns.items()
    )


def columns_in(names: Iterable[str], chosen: Mapping[str, str], prompts: bool = False) -> dict[str, str]:
    """Return a file's columns by RankViz's names: the chosen ones, else those of a format, else those with usual names.
    Capitals, and signs between words, do not count. Empty where there are none. names: All columns of the file.
    prompts: for rows of prompts, whose answers may be missing."""
    plain = {re.sub(r"[\W_]+", "_", str(name).strip().casefold()): str(name) for name in names}
    if chosen:
        return dict(chosen) if {*chosen.values()} <= {*plain.values()} else {}

    def usual(role: str, besides: Iterable[str] = ()) -> str:
        named = (plain[name] for name in USUAL_NAMES[role].split() if name in plain)
        return next((name for name in named if name not in besides), "")

    if prompts:
        role = next((role for role in PROMPTS if role in plain), "")
        column = plain.get(role) or usual("instruction")
        if not column:
            return next(({role: usual(role)} for role in ("messages", "text") if usual(role)), {})
        if role == "prompt" and (usual("system") or "context" in plain):
            role = ""
        columns = {role or "instruction": column}
        answers = ("answer", "ground_truth", *USUAL_NAMES["output"].split())
        if answer := next((plain[name] for name in answers if plain.get(name, column) != column), ""):
            columns["answer"] = answer
        for role in OPTIONAL if "instruction" in columns else ():
            if more := usual(role, [*columns.values()]):
                columns[role] = more
        return columns
    format_ = _format(plain)
    columns = {role: plain[role] for role in REQUIRED[format_]} if format_ else {}
    answer = usual("output")
    request = usual("instruction", [answer])
    talks = format_ == "prompt-completion" and (usual("system") or "context" in plain)
    if talks or format_ in (None, "text"):
        columns = {"instruction": request, "output": answer} if request and answer else columns
        columns = columns or next(({role: usual(role)} for role in ("messages", "text") if usual(role)), {})
    for role in OPTIONAL if "output" in columns else ():
        if column := usual(role, [*columns.values()]) or (role not in columns.values() and role):
            columns[role] = column
    return columns


def _format(columns: Iterable[str]) -> Format | None:
    return next((format_ for format_, required in REQUIRED.items() if {*required} <= {*columns}), None)


def format_of(columns: Mapping[str, str], row: dict, name: str, prompts: bool = False) -> Format:
    """Return the format of a file by its columns; raise BadDataError with them where no format fits its first row.
    prompts: for rows of prompts."""
    if format_ := ("prompt" if columns else None) if prompts else _format(columns):
        return format_
    needed = "; or ".join(PROMPTS if prompts else (" and ".join(required) for required in REQUIRED.values()))
    shown = [HALVES.sub("\ufffd", str(column)[:SHOWN_CHARACTERS]) for column in islice(row, SHOWN_COLUMNS)]
    known, first, second = ", ".join(shown) or "none", *(shown[:2] if len(shown) > 1 else ("question", "answer"))
    more = f" and {len(row) - SHOWN_COLUMNS:,} more" if len(row) > SHOWN_COLUMNS else ""
    message = f"{name} has the columns {known}{more}; RankViz needs {needed}. Choose its columns, such as "
    raise unknown_columns(f"{message}instruction={first},output={second}.", [*islice(row, SHOWN_COLUMNS)])


def unknown_columns(message: str, columns: Sequence[str]) -> BadDataError:
    error = BadDataError(message)
    error.columns = [each for each in columns if 0 < len(each) <= MAX_COLUMN and not HALVES.search(each)]
    return error


def example_of(format_: Format, row: dict, where: str) -> Example | None:
    """Return the example of a row; None for a chat without an answer; BadDataError for a bad row."""
    for column in REQUIRED[format_]:
        if row.get(column) is None:
            raise BadDataError(f"{where} has no {column!r}, which the first row has.")
    match format_:
        case "messages" | "conversations":
            return _chat(_messages(row[format_], where))
        case "prompt-completion" if isinstance(row["prompt"], list):
            prompt, completion = _messages(row["prompt"], where), _messages(row["completion"], where)
            return _chat(prompt + completion, after=len(prompt))
        case "prompt-completion":
            return Example(
                prompt=_text(row, "prompt", where, may_be_empty=True), completion=_text(row, "completion", where)
            )
        case "instruction":
            more = "" if row.get("input") is None else _text(row, "input", where, may_be_empty=True)
            given = "\n\n".join(filter(None, [_text(row, "instruction", where), more]))
            system = (("system", _text(row, "system", where)),) if row.get("system") else ()
            return Example(messages=(*system, ("user", given), ("assistant", _text(row, "output", where))))
        case "text":
            return Example(completion=_text(row, "text", where))


def prompt_of(row: dict, where: str) -> Example:
    """Return the prompt of a row, and its answer, empty without one, as `as_prompt` reads them; BadDataError for a row
    without a prompt."""
    try:
        prompt, answer = as_prompt(row)
    except ValueError as error:
        raise BadDataError(f"{where} {error}.") from None
    turns = [] if isinstance(prompt, str) else [(turn["role"], turn["content"]) for turn in prompt]
    if HALVES.search("".join([answer, *chain(*turns)] if turns else [answer, prompt])):
        raise BadDataError(f"{where} has half of a character: write it as UTF-8.")
    if turns:
        return Example(messages=(*turns, ("assistant", answer)))
    return Example(prompt=prompt, completion=answer)


def traits_of(format_: Format, row: dict) -> Iterator[str]:
    """Yield features of a valid row on which exports depend (Trait in core/cost/setup.py), "input" for a given one."""
    cells = [row[column] for column in REQUIRED[format_]]
    if format_ == "instruction" and row.get("input") is not None:
        yield "input"
        cells.append(row["input"])
    if row.get("system"):
        yield "system"
    if any(isinstance(cell, int) for cell in cells):
        yield "numbers"
    if format_ == "prompt-completion" and isinstance(row["prompt"], list):
        yield "lists"
    if format_ not in ("messages", "conversations"):
        return
    (cell,), roles = cells, []
    if isinstance(cell, str):
        yield "json"
    for turn in json.loads(cell) if isinstance(cell, str) else cell:
        key, content = ("role", "content") if isinstance(turn.get("role"), str) else ("from", "value")
        yield key
        if isinstance(turn[content], int):
            yield "numbers"
        roles.append(turn[key])
    yield from {"user", "human", "assistant", "gpt"}.intersection(roles)
    roles = [ROLES.get(role, role) for role in roles]
    turns = roles[roles[:1] == ["system"] :]
    if turns != ["user", "assistant"] * (len(turns) // 2):
        yield "uneven"


def _messages(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str):  # CSV has no lists: the cell holds JSON
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadDataError(f"{where}: messages must be a JSON list.") from None
    if not isinstance(value, list):
        raise BadDataError(f"{where}: 'messages' must be a list of messages.")
    messages = []
    for message in value:
        for key, content in (("role", "content"), ("from", "value")):
            if isinstance(message, dict) and isinstance(message.get(key), str):
                role = _text(message, key, where)
                messages.append((ROLES.get(role, role), _text(message, content, where, may_be_empty=True)))
                break
        else:
            raise BadDataError(f"{where}: each message must be an object with a role and a content, or from and value.")
    return tuple(messages)


def _chat(messages: tuple[tuple[str, str], ...], *, after: int = 0) -> Example | None:
    """Return the chat up to the assistant's last answer; None without one. after: Number of messages in the prompt."""
    answers = [i for i, (role, content) in enumerate(messages) if role == "assistant" and content and i >= after]
    if not answers:
        return None
    return Example(messages=messages[: answers[-1] + 1], turns_left_out=len(messages) - answers[-1] - 1)


def _text(row: dict, column: str, where: str, may_be_empty: bool = False) -> str:
    value = row.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadDataError(f"{where}: {column!r} must be text, not {type(value).__name__}.")
    if HALVES.search(value):
        raise BadDataError(f"{where}: {column!r} has half of a character: write it as UTF-8.")
    if not value.strip() and not may_be_empty:
        raise BadDataError(f"{where}: {column!r} is empty.")
    return value


def text_in(value):
    """Return a cell as text; a number is text too, and nothing is empty."""
    if isinstance(value, (list, dict)):
        raise ValueError(f"has {str(value)[:40]} where text must be")
    return "" if value is None else str(value)


def chat_in(cell):
    """Return a list of messages, or the JSON of one, with the names of OpenAI's chats; None for another cell."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    turns = cell if isinstance(cell, list) else []
    if not turns or not all(isinstance(turn, dict) and (turn.get("role") or turn.get("from")) for turn in turns):
        return None
    chat = []
    for turn in turns:
        role, content = ("role", "content") if turn.get("role") else ("from", "value")
        name = text_in(turn[role])
        chat.append({"role": ROLES.get(name, name), "content": text_in(turn.get(content))})
    return chat


def as_prompt(row):
    """Return the prompt of a row, as text or as messages, and its answer as text, empty without one.

    The prompt is the first filled column of messages, conversations, instruction, prompt and text; the answer that of
    answer, completion and output, or the assistant's message that ends a chat.
    """
    names = [name for name in PROMPTS if row.get(name) is not None]
    if not names:
        raise ValueError(f"has no prompt: it needs one of {', '.join(PROMPTS)}")
    cell = row[names[0]]
    prompt = chat_in(cell) if names[0] not in ("instruction", "text") else None
    answers = [row[name] for name in ("answer", "completion", "output") if row.get(name) is not None]
    if names[0] in ("messages", "conversations") and prompt is None:
        raise ValueError("must have a list of messages, each with a role and a content, or from and value")
    if prompt is None:
        prompt = text_in(cell)
        if names[0] == "instruction":
            system = [{"role": "system", "content": text_in(row["system"])}] if row.get("system") else []
            request = "\n\n".join(filter(None, [prompt, text_in(row.get("input"))]))
            prompt = [*system, {"role": "user", "content": request}] if request.strip() else ""
    elif prompt[-1]["role"] == "assistant":
        *prompt, last = prompt
        answers.append(last["content"])
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise ValueError("has an empty prompt")
    answer = chat_in(answers[0]) if answers else None
    return prompt, answer[-1]["content"] if answer else text_in(answers[0] if answers else None)


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
