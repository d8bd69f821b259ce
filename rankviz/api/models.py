"""Base models: the catalogue, and any other model by folder, config.json or Hub id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankviz import paths
from rankviz.api.workspace import EMBEDDED_MODEL, Operations
from rankviz.catalog import models as catalog_models
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import TrainingSetup, card
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.targets import ModuleChoice, module_choices
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, UserError
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
"""Unsloth's own default first. Some families name their modules otherwise, and Unsloth refuses some."""
REMEMBERED = 1000
"""Models that are kept in memory."""


class Models(Operations):
    """Models that can be fine-tuned."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._known: dict[Reference, ModelSpec] = {}

    def all(self) -> Sequence[catalog_models.ModelRow]:
        """The catalogue, a short row a model, sorted by id."""
        return catalog_models.load_index(self._workspace.assets)

    def get(self, ref: str) -> ModelSpec:
        """A catalogue id or one of its aliases, a folder, a config.json, or a Hub id.

        The last three are built on the meta device in a worker process, under time and memory limits.
        """
        reference = self._workspace.references.model(ref)
        if reference not in self._known:
            self._known[reference] = self._find(reference)
            while len(self._known) > REMEMBERED:
                self._known.pop(next(iter(self._known)))
        return self._known[reference]

    def at_hand(self, ref: str) -> ModelSpec | None:
        """A model that can be had without asking the Hub; None for any other."""
        try:
            reference = self._workspace.references.model(ref)
        except UserError:
            return None
        return None if reference.kind == "hub" and reference not in self._known else self.get(ref)

    def _find(self, reference: Reference) -> ModelSpec:
        assets = self._workspace.assets
        if reference.kind == "name":
            return catalog_models.load_model(assets, _catalogue_name(reference))
        from rankviz import hub

        is_hub = reference.kind == "hub"
        return hub.find_model(
            reference.path or reference.text,
            cache=self._workspace.home / paths.INTROSPECTED,
            door=self._workspace.hub,
            suggestions=catalog_models.close_names(self.all(), reference.text) if is_hub else (),
            children=self._workspace.layouts,
        )

    def config(self, ref: str) -> Mapping[str, Any]:
        """A model's config.json."""
        reference = self._workspace.references.model(ref)
        if reference.kind == "name":
            return catalog_models.load_config(self._workspace.assets, _catalogue_name(reference))
        from rankviz import hub

        return hub.find_config(reference.path or reference.text, door=self._workspace.hub)

    def modules(self, model: ModelSpec) -> Sequence[ModuleChoice]:
        """Every name that target_modules can hit in this model, with how many modules it hits."""
        return module_choices(model)

    def usual_setting(self, model: ModelSpec) -> tuple[Framework, str]:
        """The first framework and preset of USUAL_SETTINGS that this model can be trained with."""
        for framework, preset in USUAL_SETTINGS:
            if self.preset_names(model, LoraConfig(target_modules=preset), TrainingSetup(framework=framework)):
                return framework, preset
        return USUAL_SETTINGS[0]

    def preset_names(self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup) -> Sequence[str]:
        """The modules that a preset reaches in this model on a GPU; none where PEFT or Unsloth refuses it."""
        try:
            return plan_on(model, lora, training, card(None)).target_names
        except InvalidSettingError:
            return ()


def _catalogue_name(reference: Reference) -> str:
    return EMBEDDED_MODEL if reference.text == EMBEDDED else reference.text
