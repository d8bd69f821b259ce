"""Base models: those of the catalogue, and any other by folder, config.json or Hub id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankviz import paths
from rankviz.api.workspace import Cache, Operations
from rankviz.catalog import models as catalog_models
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import TrainingSetup, card
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import COPY
from rankviz.errors import InvalidSettingError, UserError
from rankviz.paths import id_in
from rankviz.references import EMBEDDED, Reference

if TYPE_CHECKING:
    from rankviz.api import Api

USUAL_SETTINGS: tuple[tuple[Framework, str], ...] = (
    ("unsloth", "unsloth"),
    ("unsloth", "all-linear"),
    ("trl", "all-linear"),
    ("unsloth", "attention"),
    ("trl", "attention"),
)
"""Framework and preset to try for a model, in this order. Not every model has the modules of a preset."""
CATALOGUE_NAMES = {EMBEDDED: "HuggingFaceTB/SmolLM2-135M"}
"""Catalogue row with the layer shapes of the embedded base, SmolLM2-135M-Instruct."""
REMEMBERED = 1000
"""Number of models that are cached in memory."""
NONE_FOUND = "No model of the catalogue has all of these words. A Hub id names any other model."


class Models(Operations):
    """Base models that can be fine-tuned, by id, alias, folder, config.json or Hub id."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._known = Cache[ModelSpec](REMEMBERED)

    def all(self) -> Sequence[catalog_models.ModelRow]:
        """Return a short row for each model of the catalogue, sorted by id."""
        return catalog_models.load_index(self._workspace.assets)

    def search(
        self, words: str, limit: int | None = None, offset: int = 0
    ) -> tuple[Sequence[catalog_models.ModelRow], int, str]:
        """Return at most `limit` models from `offset` on that a text may mean, the best first, with the alias that fits
        best as their `name`; the number of models after them; and sentences on what was assumed, on near names where no
        model has the words, and on the models after the returned ones."""
        rows = self.all()
        if not (found := catalog_models.search(rows, words)):
            near = " or ".join(catalog_models.close_names(rows, words))
            return [], 0, NONE_FOUND + (f" Did you mean {near}?" if near else "")
        shown = found[offset : None if limit is None else offset + limit]
        more = max(0, len(found) - offset - len(shown))
        note = catalog_models.meant(rows, words)[1] if COPY.search(id_in(words)) else ""
        return shown, more, f"{note} And {more:,} more: give more words, or a higher limit.".strip() if more else note

    def get(self, ref: str) -> ModelSpec:
        """Return a model by catalogue id or alias, folder, config.json or Hub id. A model outside the catalogue is
        built on the meta device in a worker process, under time and memory limits."""
        reference = self._workspace.references.model(ref)
        assets = self._workspace.assets
        return self._known.get(reference, lambda: catalog_models.with_image_processor(assets, self._find(reference)))

    def at_hand(self, ref: str) -> ModelSpec | None:
        """Return a model if it needs no request to the Hub; else None."""
        try:
            reference = self._workspace.references.model(ref)
        except UserError:
            return None
        return None if reference.kind == "hub" and reference not in self._known else self.get(ref)

    def _find(self, reference: Reference) -> ModelSpec:
        assets = self._workspace.assets
        if reference.kind == "name":
            return catalog_models.load_model(assets, CATALOGUE_NAMES.get(reference.text, reference.text))
        from rankviz.hub import remote

        is_hub = reference.kind == "hub"
        return remote.find_model(
            reference.path or reference.text,
            cache=self._workspace.home / paths.INTROSPECTED,
            door=self._workspace.hub,
            suggestions=catalog_models.close_names(self.all(), reference.text) if is_hub else (),
            children=self._workspace.layouts,
        )

    def config(self, ref: str) -> Mapping[str, Any]:
        """Return the content of a model's config.json."""
        reference = self._workspace.references.model(ref)
        if reference.kind == "name":
            name = CATALOGUE_NAMES.get(reference.text, reference.text)
            return catalog_models.load_config(self._workspace.assets, name)
        from rankviz.hub import remote

        with remote.config_of(reference.path or reference.text, self._workspace.hub) as config:
            return remote.read_config(config)

    def usual_setting(self, model: ModelSpec) -> tuple[Framework, str]:
        """Return the first framework and preset of USUAL_SETTINGS with which this model can be trained."""
        for framework, preset in USUAL_SETTINGS:
            if self.preset_names(model, LoraConfig(target_modules=preset), TrainingSetup(framework=framework)):
                return framework, preset
        return USUAL_SETTINGS[0]

    def preset_names(self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup) -> Sequence[str]:
        """Return the names of the modules that a preset selects on a GPU; empty if PEFT or Unsloth refuses it."""
        try:
            return plan_on(model, lora, training, card(None)).target_names
        except InvalidSettingError:
            return ()
