"""Images as transformers' own image processors and Unsloth's collator count them."""

import ast
import importlib.util
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankviz.api import Api
from rankviz.catalog import read_rows
from rankviz.catalog.models import load_config, load_index, load_model, with_image_processor
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.images import seen_by
from rankviz.errors import InvalidSettingError
from tests.support.runs.toy import ASSETS
from tests.support.runs.toy import model as toy

ROWS = {row["id"]: row for row in read_rows(ASSETS / "image_processors.json", "processors")}
SIZES = [(224, 224), (512, 512), (1024, 768), (1920, 1080), (1700, 2200), (4032, 3024), (37, 1900), (4001, 61), (5, 9)]
SEEING = {
    model.model_type: model
    for row in load_index(ASSETS)
    if (model := with_image_processor(ASSETS, load_model(ASSETS, row.id))).tower == "whole model"
}
FIXED = {"gemma3": (256, 4, 1, 64**2), "gemma3n": (256, 4, 1, 0), "llava": (576, 0, 1, 24**2 + 1)}


def counted(row, width, height):
    """Tokens, marks, tiles and patches of each by transformers' classes, without a tokenizer."""
    import transformers as hf
    from PIL import Image

    def run(processor, **more):
        return processor(Image.new("RGB", (width, height)), return_tensors="pt", **more)

    def made(name, **fields):
        processor = (kind := getattr(hf, name)).__new__(kind)
        vars(processor).update(fields)
        return processor

    def tokens(name, **fields):
        return made(name, **fields)._get_num_multimodal_tokens([(height, width)])["num_image_tokens"][0]

    if row["id"] in FIXED:
        return FIXED[row["id"]]
    side, long, kind = row.get("side"), row.get("longest_side"), getattr(hf, row["processor"])
    match row["rule"]:
        case "multiple" | "ratio":
            size = {"shortest_edge": row.get("min_pixels"), "longest_edge": row.get("max_pixels")}
            processor = kind(patch_size=side // 2, size=size) if size["longest_edge"] else kind()
            patches = processor.get_number_of_image_patches(height, width, {})
            return patches // 4, 2, 1, patches
        case "budget":
            return int((result := run(kind()))["num_soft_tokens_per_image"][0]), 2, 1, result["pixel_values"].shape[1]
        case "rows":
            processor = kind(size={"longest_edge": long}, patch_size=side)
            pixels = math.prod(map(int, run(processor)["image_sizes"][0]))
            text = tokens("PixtralProcessor", patch_size=side, spatial_merge_size=1, image_processor=processor)
            return text, 0, 1, pixels // (14 if side == 28 else 16) ** 2
        case "canvas":
            result = run(kind())
            text = hf.Llama4Processor._prompt_split_image(None, result["aspect_ratios"][0].tolist(), 144)
            return len(re.findall(r"<\|\w+\|>", text)), 0, result["pixel_values"].shape[0], 24**2 + 1
        case "nearest":
            processor = kind(size={"height": side, "width": side})
            tiles = processor.get_number_of_image_patches(height, width, {"crop_to_patches": True})
            text = tokens("InternVLProcessor", image_seq_length=256, image_processor=processor)
            return text - 2, 2, tiles, 32**2 + 1
        case "split":
            sizes = {"size": {"longest_edge": long}, "max_image_size": {"longest_edge": side}}
            result = run(kind(**sizes), return_row_col_info=True)
            marks = {"fake_image_token": "<f>", "global_image_tag": "<g>", "image_token": "<i>"}
            text = made("Idefics3Processor", image_seq_len=row["tokens"], **marks).replace_image_token(result, 0)
            return len(re.findall(r"<\w+>|\n+", text)), 0, result["pixel_values"].shape[1], row["patches"]
        case "anyres":
            processor = kind(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
            fields = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
            text = tokens("LlavaNextProcessor", patch_size=14, image_processor=processor, **fields)
            return text, 0, run(processor)["pixel_values"].shape[1], 24**2 + 1
    return 1, 0, run(kind(size={"height": 560, "width": 560}, max_image_tiles=4))["pixel_values"].shape[2], 1608


@pytest.mark.torch
@pytest.mark.parametrize("name", ROWS)
def test_tokens_tiles_and_patches_are_those_of_transformers_processors(name):
    model = replace(toy(), image_processor=ROWS[name])
    for width, height in SIZES:
        try:
            expected = counted(ROWS[name], width, height)
        except (ValueError, RuntimeError, ZeroDivisionError):
            with pytest.raises(InvalidSettingError, match="too narrow"):
                seen_by(model, f"{width}x{height}", unsloth=False)
        else:
            assert expected == seen_by(model, f"{width}x{height}", unsloth=False)[2:], (width, height)


@pytest.mark.torch
@pytest.mark.parametrize("model_type", SEEING)
def test_unsloth_shrinks_an_image_of_every_family_of_the_catalogue_as_its_collator_does(model_type):
    from PIL import Image
    from transformers import AutoConfig

    # The method alone: the package would patch transformers in this process.
    file = Path(importlib.util.find_spec("unsloth_zoo").submodule_search_locations[0], "vision_utils.py")
    parts = {getattr(each, "name", ""): each for each in ast.walk(ast.parse(file.read_text()))}
    code = {"math": math, "LANCZOS": Image.Resampling.LANCZOS, "MAX_RATIO": 200, "_WARNED_DEGENERATE_ASPECT": True}
    exec(compile(ast.Module([parts["_resize_images_inplace"]], []), "", "exec"), code)
    config = load_config(ASSETS, SEEING[model_type].id)
    limit = getattr(AutoConfig.for_model(**config).vision_config, "image_size", 512)
    collator = SimpleNamespace(image_size=limit, size_func=lambda image: image.size[0], snap_to_patch_size=False)
    for width, height in SIZES[:-2]:
        (image,) = code["_resize_images_inplace"](collator, [Image.new("RGB", (width, height))])
        assert image.size == seen_by(SEEING[model_type], f"{width}x{height}", unsloth=True)[:2]


def test_a_photo_of_a_phone_takes_62_times_fewer_tokens_under_unsloth():
    model = replace(toy(), image_processor=ROWS["qwen2-5-vl"])

    assert (4032, 3024, 15_552, 2, 1, 62_208) == seen_by(model, "4032x3024", unsloth=False)
    assert (512, 384, 252, 2, 1, 1008) == seen_by(model, " 4032 X 3024", unsloth=True)
    assert 448 == seen_by(replace(toy(), image_processor=ROWS["internvl"]), "9x9", unsloth=True).width


def question(model="Qwen/Qwen3-VL-4B-Instruct", **training):
    setup = TrainingSetup(**{"framework": "trl", "max_steps": 10} | training)
    return Question(model_id=model, ranks=(16,), gpu="t4", training=setup)


def ask(**settings):
    return Api().estimates.estimate(question(**settings)).estimate


def test_images_lengthen_examples_and_add_the_tower_as_a_range():
    none, small, large = (ask(**each) for each in ({}, {"images": 1}, {"images": 2, "image_size": "1920x1080"}))
    (before,), (one,), (two,) = none.ranks, small.ranks, large.ranks
    short = ask(images=1, data=TrainingData(mean_tokens=300, longest_tokens=900)).question.training

    assert [0, 770, 4084] == [each.question.training.image_tokens for each in (none, small, large)]
    assert (1070, 2048, 1728) == (short.whole_data.mean_tokens, short.longest, short.fitted_length)
    assert before.memory.high < one.memory.high < two.memory.high
    assert before.duration.step.expected < one.duration.step.expected < two.duration.step.expected
    assert before.adapter_bytes == two.adapter_bytes
    assert any("4,084 tokens; training stops above the maximum length of 2,048" in note for note in large.notes)


def test_smaller_images_are_among_the_changes_and_leave_the_examples_as_many():
    changes = Api().estimates.fit(question(images=2, image_size="4032x3024", max_length=512), 16).knobs
    smaller = next(each for each in changes if each.change == {"image_size": "2016x1512"})

    assert smaller.device_bytes < 0 > smaller.seconds
    assert not any("half the length" in each.label for each in changes)


def test_full_fine_tuning_has_the_time_of_the_tower_and_no_file_trains_on_images():
    before, after = (Api().estimates.fit(question(**each), 16).methods[-1].seconds for each in ({}, {"images": 2}))

    assert before.low < after.low and before.high < after.high
    with pytest.raises(InvalidSettingError, match="no file that trains on images"):
        Api().advice.export(question(images=1), 16, "script")
    assert Api().advice.export(question(images=1), 16, "adapter-config").text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "Qwen/Qwen3-4B"}, "is a text model, so it takes no images. Leave"),
        ({"model": "Qwen/Qwen3.5-4B"}, "without its vision tower, .* Choose Qwen/Qwen3.5-4B:whole, or leave"),
        ({"image_size": "300x1"}, "too narrow"),
        ({"image_size": "1024"}, "width x height in pixels, such as 1024x768"),
        ({"image_size": "1x32769"}, "each from 1 to 32,768"),
        ({"images": None, "image_size": "9x9"}, "number of images"),
        ({"images": 1024, "image_size": "4032x3024"}, "Tokens of images"),
    ],
)
def test_images_that_cannot_be_are_refused_with_what_to_do(change, message):
    with pytest.raises(InvalidSettingError, match=message):
        ask(**{"images": 1} | change)
