"""Base models: the catalogue, and any other model by folder, config.json or Hub id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.api.workspace import EMBEDDED, EMBEDDED_MODEL, Workspace
from rankviz.catalog import models as catalog_models
from rankviz.core.checks import named
from rankviz.core.cost.adapter import plan_on
from rankviz.core.cost.device import card
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.targets import ModuleChoice, module_choices
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, UnknownModelError
from rankviz.paths import existing

USUAL_SETTINGS: tuple[tuple[Framework, str], ...] = (
    ("unsloth", "unsloth"),
    ("unsloth", "all-linear"),
    ("trl", "all-linear"),
    ("unsloth", "attention"),
    ("trl", "attention"),
)
"""Unsloth's own default first. Some families name their modules otherwise, and Unsloth refuses some."""


class Models:
    """What can be fine-tuned."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._known: dict[str, ModelSpec] = {}

    def all(self) -> Sequence[catalog_models.ModelRow]:
        """The catalogue, a short row a model, sorted by id."""
        return catalog_models.load_index(self._workspace.assets)

    def get(self, ref: str) -> ModelSpec:
        """A catalogue id or one of its aliases, a folder, a config.json, or a Hub id.

        The last three are built on the meta device in a worker process, under time and memory limits.
        """
        named(ref, "Model")
        ref = ref.strip()
        if ref not in self._known:
            self._known[ref] = self._find_model(ref)
        return self._known[ref]

    def at_hand(self, ref: str) -> ModelSpec | None:
        """A model that can be had without asking the Hub; None for any other."""
        if ref in self._known or ref == EMBEDDED or existing(ref):
            return self.get(ref)
        try:
            return catalog_models.load_model(self._workspace.assets, ref)
        except UnknownModelError:
            return None

    def _find_model(self, ref: str) -> ModelSpec:
        if ref == EMBEDDED:
            ref = EMBEDDED_MODEL
        self._workspace.refuse_private_path(ref)
        try:
            return catalog_models.load_model(self._workspace.assets, ref)
        except UnknownModelError as unknown:
            from rankviz import hub

            if (spec := hub.find_model(ref, cache=self._workspace.home / "introspected", unknown=unknown)) is None:
                raise
            return spec

    def config(self, ref: str) -> Mapping[str, Any]:
        """A model's config.json."""
        from rankviz.catalog.configs import load_config

        ref = EMBEDDED_MODEL if ref.strip() == EMBEDDED else ref.strip()
        self._workspace.refuse_private_path(ref)
        try:
            return load_config(self._workspace.assets, ref)
        except UnknownModelError:
            from rankviz import hub

            if (config := hub.find_config(ref)) is None:
                raise
            return config

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
