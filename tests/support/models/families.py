"""Which models of the catalogue stand for all others in `make test`; `make test-counts` tries each."""

from rankviz.catalog.models import load_index, load_model
from rankviz.paths import ASSETS


def one_a_family(*, with_every_moe: bool = True) -> frozenset[str]:
    """Ids of the smallest model of each architecture, text and whole, and of every mixture of experts."""
    chosen, families = set(), set()
    for model in sorted((load_model(ASSETS, row.id) for row in load_index(ASSETS)), key=lambda m: m.total_parameters):
        if (with_every_moe and model.has_experts) or (model.model_type, model.tower) not in families:
            chosen.add(model.id)
        families.add((model.model_type, model.tower))
    return frozenset(chosen)
