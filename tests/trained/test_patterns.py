"""Patterns of rank_pattern and alpha_pattern: PEFT's own answer for all that is read, stopped after a while."""

import json
import random

import pytest

from rankviz.core.spectrum import patterns as written_by_rankviz
from rankviz.errors import BadAdapterError
from rankviz.trained.read import Patterns, bounded_matching, parse_config

NAMES = [
    f"{top}.layers.{block}.{part}"
    for top in ("model", "model.language_model", "transformer")
    for block in (0, 1, 9, 10, 31)
    for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj", "mlp.experts.3.up_proj", "mlp.experts")
] + ["lm_head", "model.embed_tokens", "q_proj", "x", "modelxlayersx0xself_attnxq_proj", "a", "aa", "aab"]
USUAL = [
    "q_proj",
    "proj",
    "self_attn.q_proj",
    "model.layers.0.self_attn.q_proj",
    "^model.layers.(0|31).self_attn.q_proj",
    r"model\.layers\.[0-9]+\.mlp\.down_proj",
    r".*\.gate_up_proj",
    r".*(q|o)_proj",
    r"layers\.(\d|1\d)\..*",
    r"^model\.layers\.\d{1,2}\.self_attn\.(?:q_proj|o_proj)$",
    r"(.*?(?:language).*?(?:self_attn|mlp).*?(?:q_proj|down_proj).*?)",
    r"(?:model\.layers\.(?:0|1)\.self_attn\.(?:q_proj))|(?:\bnever)",
    r"(?=model)model.*(?<!down)_proj",
    r"(?P<part>layers\.1)\..*o_proj",
    "lm_head|embed_tokens",
    "[^.]*_proj",
    "layers.{}.mlp",
    "a{2}b?",
    "",
    "(|a)b",
]


def peft_key(keys, name):
    from peft.utils.other import get_pattern_key

    return get_pattern_key(keys, name)


@pytest.mark.parametrize("key", USUAL)
def test_a_pattern_matches_as_in_peft(key):
    known = Patterns({key: 1})

    for name in NAMES:
        assert (peft_key([key], name) == key) == (known.first(name) is not None or name == key), name


def test_the_first_pattern_counts_as_in_peft():
    chooser = random.Random(5)
    for _ in range(200):
        keys = chooser.sample(USUAL, 4)
        known = Patterns(dict.fromkeys(keys, 0))
        for name in NAMES:
            assert peft_key(keys, name) == (known.first(name) or name)


def test_what_rankviz_writes_is_read(tmp_path):
    ranks = {f"model.layers.{block}.mlp.{part}": 1 + block % 3 for block in range(40) for part in ("up", "down")}
    keys = written_by_rankviz(ranks, 1)
    known = Patterns(keys)

    for name, r in ranks.items():
        assert r == known.get(name, 1)


@pytest.mark.parametrize("key", ["(a+)+b", "(a|aa)+b", "(a*)*b"])
def test_a_pattern_that_takes_re_for_ever_is_refused_in_time(key):
    with pytest.raises(BadAdapterError, match="takes too long to match"), bounded_matching(0.2):
        Patterns({key: 4}).first("a" * 60)


@pytest.mark.parametrize("key", ["(", "a)", "[a", "*", "a{2}{3}", "\\", "(" * 5000 + ")" * 5000, "[z-a]"])
def test_what_re_does_not_take_is_refused_with_a_sentence(key):
    config = {"peft_type": "LORA", "r": 8, "rank_pattern": {key: 4}}

    with pytest.raises(BadAdapterError, match=r"^The pattern .* is not a regular expression"):
        parse_config(json.dumps(config).encode())
