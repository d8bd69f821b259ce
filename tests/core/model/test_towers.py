"""The text model inside a multimodal one."""

from dataclasses import replace

from rankviz.core.model.spec import LinearLayer
from rankviz.core.model.towers import second_towers, text_part
from tests.support.runs.toy import ATTENTION, MLP, layer, model


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
