"""What published studies say about rank, and the advice that rests on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.api.estimates import Estimates
from rankviz.core.cost.question import Question
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, UnknownModelError

if TYPE_CHECKING:
    from rankviz.catalog.own_studies import Added
    from rankviz.core.advice.use_case import Goal
    from rankviz.core.studies.findings import RankEnough
    from rankviz.core.studies.lines import Evidence, Facet, Line
    from rankviz.core.studies.nearest import Near, Subject

WIDE = ("unsloth", "all-linear", "attention")
"""Presets for "all linear layers", the first that a model and framework take."""


class Size(NamedTuple):
    """What an adapter of a published point weighs. computed: not stated there, but counted from the base's layers."""

    parameters: int | None
    file_bytes: int | None
    computed: bool


class PublishedEvidence(Estimates):
    """What a rank buys, as far as others have measured it."""

    _evidence_stamp: tuple | None = None

    def evidence(self) -> Evidence:
        """All published points, and those that were added here."""
        from rankviz.catalog import own_studies
        from rankviz.catalog.studies import load_evidence

        stamp = own_studies.stamp(self.home)
        if stamp != self._evidence_stamp:
            shipped = load_evidence(self.assets)
            own = own_studies.own_evidence(self.home, self.models()) if stamp else None
            self._evidence, self._evidence_stamp = shipped.plus(own) if own else shipped, stamp
        return self._evidence

    def rank_enough(self) -> RankEnough | None:
        """Which rank was enough, counted over published sweeps that tuned the learning rate at each rank."""
        from rankviz.core.studies.findings import rank_enough

        return rank_enough(self.evidence().published)

    def near(self, model: str, use_case: str, methods: Sequence[str], facets: Sequence[Facet]) -> Sequence[Near]:
        """Published lines of quality by rank with these targets, the nearest study first."""
        from rankviz.core.studies.nearest import drawn_lines, nearest

        return nearest(drawn_lines(self.evidence(), methods, facets), self._subject(model, use_case))

    def sizes(self, line: Line) -> Sequence[Size]:
        """The adapters of a line's points: as published, or counted where base and targets are known."""
        plan = self._plan_of(line)
        return [
            Size(p.trainable_parameters, p.adapter_bytes, False)
            if p.trainable_parameters or plan is None
            else Size(plan.parameters(p.rank), p.adapter_bytes or plan.file_bytes(p.rank, 4), True)
            for p in line.points
        ]

    def advise(self, question: Question, goal: Goal) -> dict[str, Any]:
        """Which rank, alpha, learning rate and targets to take, why, how sure, and what would change it."""
        from rankviz.core.advice.advice import advise
        from rankviz.core.advice.json import as_json
        from rankviz.core.advice.use_case import data_of
        from rankviz.core.advice.words import fit_in_words

        goal.validate()
        model = self.model(question.model_id)
        preset, plan = self._wide(model, question)
        advice = advise(
            self.evidence(),
            self._subject(question.model_id, goal.use_case),
            goal,
            data_of(goal, question.training),
            plan.parameters,
            self._assumptions,
        )
        wide = replace(
            question,
            ranks=(advice.r,),
            lora=replace(question.lora, target_modules=preset, modules_to_save=()),
            alpha="r",
        )
        said = self.estimate(wide)
        fit = {
            "gpu": said["gpu"],
            "fit": said["ranks"][0]["fit"],
            "fit_in_words": fit_in_words(said["ranks"][0], said["gpu"]),
        }
        return {"model_id": model.id, **as_json(advice, preset, plan.target_names), **fit}

    def add_evidence(self, files: Sequence[Path]) -> Added:
        """Keep PEFT result files as studies of their own; those that can't be read are named with the reason."""
        from rankviz.catalog import own_studies

        for file in files:
            self._refuse_private_path(str(file))
        return own_studies.add(self.home, [Path(file) for file in files])

    def remove_evidence(self, name: str) -> None:
        """A file that was added, by the name that added_evidence gives it."""
        from rankviz.catalog import own_studies

        own_studies.remove(self.home, name)

    def added_evidence(self) -> Sequence[str]:
        """The files that were added here."""
        from rankviz.catalog import own_studies

        return own_studies.kept_files(self.home)

    def _subject(self, ref: str, name: str) -> Subject:
        from rankviz.catalog.models import find_model
        from rankviz.core.advice.use_case import use_case
        from rankviz.core.studies.nearest import Subject

        model = self.model(ref)
        try:
            family = find_model(self.models(), model.id).family
        except UnknownModelError:
            family = None
        return Subject(
            names=frozenset({model.id.lower(), ref.strip().lower()}),
            model_id=model.id,
            family=family,
            parameters=model.total_parameters,
            task_kinds=use_case(name).task_kinds,
        )

    def _wide(self, model: ModelSpec, question: Question) -> tuple[str | tuple[str, ...], AdapterPlan]:
        """The preset that stands for all linear layers here, and what it hits; the question's own where none can."""
        for preset in WIDE:
            try:
                lora = replace(question.lora, target_modules=preset, modules_to_save=())
                plan = resolve(model, lora, question.training.framework)
            except InvalidSettingError:
                continue
            return preset, plan
        return question.lora.target_modules, resolve(model, question.lora, question.training.framework)

    def _plan_of(self, line: Line) -> AdapterPlan | None:
        """None where the base has no row in the catalogue, or the study doesn't say its modules one by one."""
        from rankviz.core.studies.lines import module_names

        names = module_names(line.first.target_modules)
        if line.model.model_id is None or not names:
            return None
        try:
            lora = LoraConfig(target_modules=names, use_dora=line.first.method == "dora")
            return resolve(self.model(line.model.model_id), lora, "peft")
        except (InvalidSettingError, UnknownModelError):
            return None
