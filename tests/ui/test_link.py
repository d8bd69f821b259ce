"""The page's address: settings to address, and back."""

import pytest

from rankviz.ui import link
from rankviz.ui.link import CUSTOM
from rankviz.ui.parts.question import DEFAULTS


def address_of(**changes):
    return {name: value for name, value in link.write({**DEFAULTS, **changes}).items() if value is not None}


def test_the_address_names_what_differs():
    address = address_of(r=64, alpha_rule="2r", rslora=True, usd_per_hour=1.5, batch=4)

    assert {"r": "64", "alpha": "2r", "rslora": "1", "usd": "1.5", "batch": "4"} == address


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": CUSTOM, "names": "q_proj, v_proj"},
        {"dora": True, "modules_to_save": "lm_head, embed_tokens", "moe": "linear-only"},
        {"parts": ["vision", "mlp"], "unsloth_class": "FastModel"},
        {"gpu": "none", "precision": "bf16", "framework": "trl", "optim": "sgd", "checkpointing": "hf"},
        {"usd_per_hour": 12345.678},
        {"batch": 4096, "accumulation": 65_536, "max_length": 4_194_304},
        {"alpha_rule": "fixed", "alpha_fixed": 1_000_000},
        {"length": 10**14, "length_unit": "tokens"},
        {"use_case": "complex", "examples": 20_000, "example_tokens": 300, "forgetting": True},
        {"examples": 5000, "example_tokens": 400, "longest_tokens": 1600, "epochs": 3},
        {"examples": 80, "longest_tokens": 3, "measured_file": "prompt-completion:3:my rows, 2.jsonl"},
    ],
)
def test_a_copied_address_restores_what_was_asked(changes):
    values, notes = link.read(address_of(**changes))

    assert {**DEFAULTS, **changes} == DEFAULTS | values
    assert [] == notes


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"r": "5000"}, "r must be a whole number from 1 to 1,024"),
        ({"file": "text:9:../x.csv"}, "file must be the form, longest example and name of a file"),
        ({"r": "١٦"}, "r must be a whole number"),
        ({"alpha": "nan"}, "alpha must be r, 2r or a number above 0"),
        ({"targets": " , "}, "targets must be one of all-linear"),
        ({"rslora": "yes"}, "rslora must be 0 or 1"),
        ({"parts": "vision,tail"}, "parts must be some of vision, language, attention, mlp"),
        ({"usd": "inf"}, "usd must be a number from 0 to 1,000,000"),
        ({"precision": "fp8"}, "precision must be one of nf4-dq"),
        ({"model": "x" * 301}, "model must be at most 300 characters"),
    ],
)
def test_a_bad_parameter_gives_a_sentence_and_the_default(params, sentence):
    values, notes = link.read(params)

    assert {} == values
    assert 1 == len(notes)
    assert sentence in notes[0]


@pytest.mark.parametrize("text", ["x" * 5000, "\ud800", "a\0b", "1" * 5000, "a\nb"], ids=ascii)
def test_a_parameter_that_is_no_short_text_gets_a_note(text):
    for name in link.PARAMS:
        values, (note,) = link.read({name: text})

        assert {} == values
        assert note.isprintable()
        assert len(note) < 500
