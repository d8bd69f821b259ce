"""A config.json that is laid out by a worker within limits, or refused with one sentence."""

import json

import pytest

from rankviz.children import Bounds, Children
from rankviz.errors import (
    BadConfigError,
    WorkerError,
)
from rankviz.hub.remote import TIMES, introspect_config, usual_seconds
from rankviz.units import GIB
from tests.hub.layouts import LLAMA, answering, config_file
from tests.support.runs.toy import TOY


@pytest.mark.parametrize(
    ("content", "sentence"),
    (
        ("not json", "config.json is not JSON"),
        ("[1, 2]", "config.json holds a list, not an object"),
        ("{}", 'config.json has no "model_type"'),
        ('{"model_type": 3}', 'config.json has no "model_type"'),
        ("[" * 100_000, "config.json is nested too deep"),
        (
            json.dumps(LLAMA | {"num_hidden_layers": 10**9}),
            "num_hidden_layers is 1,000,000,000; RankViz takes 0 to 400.",
        ),
        (json.dumps(LLAMA | {"hidden_size": -16}), "hidden_size is -16"),
        (json.dumps(LLAMA | {"vocab_size": "many"}), "vocab_size is 'many'; it should be a whole number"),
        (json.dumps(LLAMA | {"vocab_size": 1e30}), "it should be a whole number"),
        (json.dumps({"model_type": "qwen3_5", "text_config": {"num_hidden_layers": -1}}), "num_hidden_layers is -1"),
        (json.dumps(LLAMA | {"layer_types": ["full_attention"] * 20_000}), "layer_types has 20,000 entries"),
    ),
)
def test_an_absurd_config_is_one_sentence_without_starting_a_worker(content, sentence, tmp_path):
    with pytest.raises(BadConfigError) as caught:
        introspect_config(config_file(tmp_path, content), children=answering("raise SystemExit('started')"))

    assert sentence in str(caught.value)


def test_a_worker_that_dies_without_an_answer_leaves_its_code_and_log(tmp_path):
    with pytest.raises(WorkerError, match="ended with code 9") as caught:
        introspect_config(
            config_file(tmp_path), children=answering("import sys; print('the log', file=sys.stderr); sys.exit(9)")
        )

    assert 9 == caught.value.exit_code
    assert "the log" in caught.value.log_tail


def test_a_config_is_laid_out_once(tmp_path):
    path, cache = config_file(tmp_path), tmp_path / "cache"
    first = introspect_config(path, cache=cache, children=answering("print('{\"total_parameters\": 7}')"))

    again = introspect_config(path, cache=cache, children=answering("raise SystemExit(9)"))

    assert {"total_parameters": 7} == first == again
    with pytest.raises(WorkerError):
        introspect_config(
            config_file(tmp_path, LLAMA | {"vocab_size": 101}), cache=cache, children=answering("raise SystemExit(9)")
        )


def test_what_a_layout_usually_takes_is_the_median_of_the_last_ones(tmp_path):
    cache = tmp_path / "cache"
    assert usual_seconds(cache) is None

    introspect_config(config_file(tmp_path), cache=cache, children=answering("print('{}')"))
    introspect_config(config_file(tmp_path), cache=cache, children=answering("raise SystemExit(9)"))  # remembered

    assert 1 == len((cache / TIMES).read_text().split())
    (cache / TIMES).write_text("99\n" + "\n".join(["6", "8", "7"] * 4))
    assert 7 == usual_seconds(cache)
    (cache / TIMES).write_text("nothing that is a number")
    assert usual_seconds(cache) is None


@pytest.mark.torch
def test_a_config_is_laid_out_by_the_real_worker(laid_out):
    _, _, model = laid_out

    # Embedding 1,600; two blocks of 16·16 + 2·16·8 + 16·16 + 3·16·32 + 2 norms of 16; a norm.
    assert 1600 + 2 * (256 + 256 + 256 + 1536 + 32) + 16 == model.total_parameters == TOY.total_parameters
    assert 1600 + 2 * 32 + 16 == model.unquantized_parameters
    assert [layer.path for layer in model.layers if layer.kind == "linear"] == [
        layer.path for layer in TOY.layers if layer.kind == "linear"
    ]
    assert (0, 1) == model.layers[1].blocks
    assert "text" == model.tower


@pytest.mark.torch
@pytest.mark.parametrize(
    ("config", "sentence"),
    (
        (
            LLAMA | {"model_type": "no_such_model", "auto_map": {"AutoModel": "evil.Evil"}},
            "has no architecture 'no_such_model'",
        ),
        (LLAMA | {"num_attention_heads": 3}, "transformers cannot"),
        (LLAMA | {"hidden_size": 0}, "transformers cannot"),
        ({"model_type": "vit"}, "has no model that writes text"),
    ),
)
def test_a_config_that_transformers_cannot_build_is_one_sentence(config, sentence):
    from rankviz.worker.introspect.layers import introspect

    with pytest.raises(BadConfigError) as caught:
        introspect(config)

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.torch
def test_a_model_too_large_to_lay_out_ends_within_its_limits(tmp_path):
    huge = LLAMA | {"model_type": "mixtral", "num_hidden_layers": 400, "hidden_size": 16, "num_local_experts": 8}

    with pytest.raises((BadConfigError, WorkerError)) as caught:
        introspect_config(config_file(tmp_path, huge), children=Children(Bounds(seconds=2, memory_bytes=16 * GIB)))

    assert "took more than" in str(caught.value)
