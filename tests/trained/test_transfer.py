"""What one process reads of an adapter, as another gets it."""

import json

from rankviz.trained.read import read_adapter
from rankviz.trained.resize import (
    CACHED,
    as_json,
    plan_from,
    planned_truncations,
    spectrum,
    spectrum_from,
)
from tests.support.models.saved_adapters import two_blocks


def test_a_spectrum_comes_with_what_was_computed_of_it(tmp_path):
    read = spectrum(read_adapter([two_blocks(tmp_path / "mine")]))

    received = spectrum_from(json.loads(json.dumps(as_json(read))))

    assert read == received
    for here, there in [(read, received), *zip(read.layers, received.layers, strict=True)]:
        for name in CACHED[type(here)]:
            assert json.dumps(getattr(here, name)) == json.dumps(vars(there)[name])


def test_planned_truncations_arrive_as_they_were_made(tmp_path):
    adapter = read_adapter([two_blocks(tmp_path / "mine")])
    planned = planned_truncations(adapter.outline, spectrum(adapter))

    assert [2, 3] == [each.r for each, _ in planned if each.r]
    assert [plan for _, plan in planned] == [plan_from(json.loads(json.dumps(as_json(plan)))) for _, plan in planned]
