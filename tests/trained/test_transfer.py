"""What one process reads of an adapter, as another gets it."""

import json

from rankviz.trained.read import read_adapter
from rankviz.trained.resize import as_json, outline_from, plan, plan_from, spectrum, spectrum_from
from tests.support.models.saved_adapters import two_blocks


def test_what_is_read_and_planned_arrives_as_it_was_made(tmp_path):
    adapter = read_adapter([two_blocks(tmp_path / "mine")])
    read, sent = spectrum(adapter), json.loads(json.dumps(as_json(adapter.outline)))
    assert read == spectrum_from(json.loads(json.dumps(as_json(read))))
    assert adapter.outline == outline_from(sent)

    planned = plan(adapter.outline, read, energy=0.9, dtype="bf16")

    assert planned == plan_from(json.loads(json.dumps(vars(planned))))
