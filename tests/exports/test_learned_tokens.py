"""What is learned of a chat with the chat templates of real models, as TRL ships them, and with one that writes no end.

Runs and exported scripts tokenize by the same functions, rankviz.dataset.rows.
"""

from pathlib import Path

import pytest

from rankviz.dataset.rows import answers_in, with_ends
from tests.support.models.tiny_llama import MARK, save_tokenizer

pytestmark = pytest.mark.torch  # templates and tokenizers are there with the trainer

CHAT = [
    {"role": "user", "content": "Name a letter."},
    {"role": "assistant", "content": "abc"},
    {"role": "user", "content": "Another."},
    {"role": "assistant", "content": "assistant"},
]
GLM_4 = (
    "[gMASK]<sop>{% for item in messages %}<|{{ item['role'] }}|>\n{{ item['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}{# <|user|> <|observation|> #}"
)
"""As GLM-4 writes chats: what ends an answer is the mark of the next user, and nothing ends the last."""
PARTS_ALONE = ("idefics3", "llava_next", "smolvlm")
"""Their templates read contents in parts, as processors write them."""
END = "<|im_end|>"
"""The end token of the tokenizer here."""


def templates():
    import trl

    paths = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    return {path.stem: path.read_text(encoding="utf-8") for path in paths if not path.stem.endswith("_training")}


@pytest.fixture(scope="module")
def tokenizer_of(tmp_path_factory):
    from transformers import AutoTokenizer

    def load(template):
        save_tokenizer(folder := tmp_path_factory.mktemp("tokenizer"), template)
        return AutoTokenizer.from_pretrained(folder)

    return load


def learned(tokenizer, chat, given=0):
    """The tokens that are learned, as text, answer by answer."""
    text, answers = answers_in(chat, tokenizer, given)
    ids, mask = with_ends(text, answers, tokenizer, bool(tokenizer.chat_template))
    runs = "".join(tokenizer.decode([token]) if known else "\0" for token, known in zip(ids, mask, strict=True))
    return [run for run in runs.split("\0") if run]


def test_each_answer_is_learned_with_the_token_that_ends_it_whatever_the_template(tokenizer_of):
    """Of Qwen3 and the like an empty thought stands before the answer, of gpt-oss a channel, and both are learned."""
    known = {name: text for name, text in templates().items() if name not in PARTS_ALONE}
    wrong = {}
    for name, template in known.items():
        tokenizer = tokenizer_of(template)
        runs = learned(tokenizer, CHAT)
        ends = {*MARK.findall(template), END}
        good = len(runs) == 2 and not any("letter" in run or "Another" in run for run in runs)
        if not (
            good
            and all(
                any(run.endswith(f"{turn['content']}{e}") for e in ends)
                for run, turn in zip(runs, CHAT[1::2], strict=True)
            )
        ):
            wrong[name] = runs

    assert {} == wrong
    assert 38 == len(known)


def test_where_the_template_writes_no_end_the_last_answer_ends_with_the_end_token(tokenizer_of):
    tokenizer = tokenizer_of(GLM_4)

    assert ["abc<|user|>", f"assistant{END}"] == learned(tokenizer, CHAT)
    assert [f"abc{END}"] == learned(tokenizer, CHAT[:2])
