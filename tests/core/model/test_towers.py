"""The text model inside a multimodal one."""

from dataclasses import replace

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import LinearLayer
from rankviz.core.model.towers import as_loaded, offers_text_only, second_towers, text_model, text_part
from rankviz.errors import InvalidSettingError
from tests.support.runs.toy import ASSETS, ATTENTION, MLP, layer, model


def whole():
    """The toy with a vision tower beside it and a projector, in paths that begin as the text model's do."""
    projector = LinearLayer(path="model.projector.linear", in_features=8, out_features=16, part="vision")
    text = tuple(replace(each, path=each.path.replace("model.", "model.language.", 1)) for each in (*ATTENTION, *MLP))
    eye = replace(layer("q_proj", 8, 8, part="vision"), path="model.vision.blocks.{}.q_proj")
    other = ("model", "model.vision", "model.vision.blocks.{}.act", "model.visionary", "model.language.norm")
    return model((*text, eye, projector), tower="whole model", other_modules=other)


def test_second_towers_are_the_shortest_paths_that_hold_nothing_of_the_text_model():
    assert ("model.vision", "model.projector") == second_towers(whole())
    assert () == second_towers(model())


def test_the_text_part_has_no_path_of_a_second_tower():
    part = text_part(whole())

    assert "text tower" == part.tower
    assert {"vision"}.isdisjoint(layer.part for layer in part.layers)
    # The embedding, four projections of attention and three of the MLP.
    assert 8 == len(part.layers)
    assert ("model", "model.visionary", "model.language.norm") == part.other_modules


PAIRS = [load_model(ASSETS, row.id) for row in load_index(ASSETS) if row.tower == "text tower"]


@pytest.mark.parametrize("model", PAIRS, ids=lambda model: model.id)
def test_the_text_model_of_a_whole_is_its_row_of_the_catalogue(model):
    made = text_model(model.whole)

    assert not [
        name
        for name in ("total_parameters", "unquantized_parameters", "layers", "plain_modules", "other_modules")
        if getattr(model, name) != getattr(made, name)
    ]


@pytest.mark.parametrize("model", PAIRS, ids=lambda model: model.id)
def test_text_only_is_offered_where_the_text_model_is_named_after_the_family(model):
    """unsloth/models/_utils.py, _is_family_text_decoder."""
    assert offers_text_only(model) == model.model_type.startswith(model.whole.model_type)


def test_unsloth_loads_the_whole_of_a_multimodal_name_unless_it_is_told_otherwise():
    gemma, qwen, ministral = (
        load_model(ASSETS, name)
        for name in ("google/gemma-4-E2B", "Qwen/Qwen3.5-0.8B", "mistralai/Ministral-3-3B-Instruct-2512")
    )

    def loaded(model, **how):
        return as_loaded(model, **{"text_only": False, "unsloth_on_gpu": True, **how})

    assert [model.whole.layers for model in (gemma, qwen, ministral)] == [
        loaded(model).layers for model in (gemma, qwen, ministral)
    ]
    assert gemma is loaded(gemma, text_only=True)
    assert text_model(gemma.whole) == loaded(gemma.whole, text_only=True)
    with pytest.raises(InvalidSettingError, match="with or without text_only"):
        loaded(ministral, text_only=True)
    # TRL and PEFT: the whole where transformers finds no text model in the file, and no adapter on its towers.
    assert (qwen, gemma.whole.total_parameters) == (
        loaded(qwen, unsloth_on_gpu=False),
        loaded(gemma, unsloth_on_gpu=False).total_parameters,
    )
    assert {"vision"}.isdisjoint(layer.part for layer in loaded(gemma, unsloth_on_gpu=False).layers)


@pytest.mark.parametrize(
    ("model_id", "whole", "text"),
    [
        ("google/gemma-4-E2B", (35_745_792, 143_123_056), (24_158_208, 96_687_208)),
        ("google/gemma-3-4b-it", (38_497_792, 154_112_104), (29_802_496, 119_273_568)),
        ("Qwen/Qwen3.5-0.8B", (13_181_952, 52_796_656), (10_822_656, 43_340_856)),
    ],
)
def test_all_linear_adapts_the_towers_that_are_loaded(model_id, whole, text):
    model, lora = load_model(ASSETS, model_id), LoraConfig(r=16, target_modules="all-linear")
    plans = [resolve(model, replace(lora, text_only=only), "unsloth") for only in (False, True)]

    assert [whole, text] == [(plan.parameters(16), plan.file_bytes(16)) for plan in plans]
