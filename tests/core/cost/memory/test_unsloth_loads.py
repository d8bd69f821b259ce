"""RankViz beside what Unsloth's real loader made of a tiny checkpoint of every family: each part's bytes, whole and
with text_only, in 16 bit and in 4, and what get_peft_model trains. Recorded by `make test-counts`."""

import json

import pytest

from tests import counts

pytestmark = pytest.mark.torch

LINES = [json.loads(line) for line in counts.LOADED.read_text().splitlines()]


@pytest.fixture(scope="module")
def specs():
    from transformers import AutoConfig

    from rankviz.worker.introspect.layers import layers_of
    from tests.support.models.tiny_families import CONFIGS, families, shrunk

    def of(name):
        config = shrunk(json.loads((CONFIGS / f"{name}.json").read_bytes()))
        read = json.loads(AutoConfig.for_model(**config).to_json_string(use_diff=False))
        return layers_of({**read, "architectures": config["architectures"]})

    return {family: of(name) for family, name in families().items()}


def test_every_family_of_the_catalogue_was_loaded(specs):
    assert set(specs) == {line["family"] for line in LINES}
    assert not [line for line in LINES if "refused" in line]


def test_each_part_of_a_base_and_each_adapter_is_what_unsloth_loads_and_trains(specs):
    wrong = {
        (line["family"], line["four_bit"], line["text_only"]): found
        for line in LINES
        if (found := counts.differences(line, specs[line["family"]]))
    }

    assert {} == wrong
