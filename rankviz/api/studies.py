"""What published studies say about rank."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.models import Models
from rankviz.api.workspace import Workspace, writes
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.experts import rank_of_size, shared_outer_per_rank
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.lora.targets import ALL_LINEAR
from rankviz.core.studies.lines import AdapterSize
from rankviz.errors import BadDataError, InvalidSettingError, UnknownModelError

if TYPE_CHECKING:
    from rankviz.catalog.own_studies import Added
    from rankviz.core.studies.findings import RateByRank
    from rankviz.core.studies.lines import Evidence, Facet, Line
    from rankviz.core.studies.nearest import Near, Subject

REMEMBERED = 16
"""Visitors with files of their own whose studies are kept."""


class Studies:
    """What a rank buys, as far as others have measured it."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models
        self._with_own = lru_cache(REMEMBERED)(self._read)
        self._adding = threading.Lock()

    def all(self) -> Evidence:
        """All published points, and those that whoever asks has added here."""
        names = self.added()
        return self._with_own(self._workspace.own_homes, tuple(names)) if names else self._shipped

    @cached_property
    def _shipped(self) -> Evidence:
        from rankviz.catalog.studies import load_evidence

        return load_evidence(self._workspace.assets)

    def _read(self, homes: Sequence[Path], names: Sequence[str]) -> Evidence:
        """names: of the files that are there, which say what is in them. It depends on its arguments alone, so visitors
        who ask at once get their own each."""
        from rankviz.catalog import own_studies

        return self._shipped.plus(own_studies.own_evidence(homes, self._models.all()))

    def rate_by_rank(self) -> Sequence[RateByRank]:
        """Return how the best learning rate moves with the rank, counted over published sweeps."""
        from rankviz.catalog.forecast import load_rates_by_rank

        return load_rates_by_rank(self._workspace.assets)

    def near(self, subject: Subject, methods: Sequence[str], facets: Sequence[Facet]) -> Sequence[Near]:
        """Published lines of quality by rank with these targets, the nearest study first."""
        from rankviz.core.studies.nearest import drawn_lines, nearest

        return nearest(drawn_lines(self.all(), methods, facets), subject)

    def sizes(self, line: Line) -> Sequence[AdapterSize]:
        """The adapters of a line's points: as published, or counted where base and targets are known."""
        plan, per_rank = self._plan_of(line), self._tinkers_per_rank(line)
        return [
            AdapterSize(p.rank * per_rank, None, True)
            if per_rank
            else AdapterSize(p.trainable_parameters, p.adapter_bytes, False)
            if p.trainable_parameters or plan is None
            else AdapterSize(plan.parameters(p.rank), p.adapter_bytes or plan.file_bytes(p.rank, 4), True)
            for p in line.points
        ]

    def equal_ranks(self, line: Line, plan: AdapterPlan) -> Mapping[int, float]:
        """Ranks that train as many parameters with a pair for each expert as a line's ranks do in its own MoE scheme;
        of the ranks whose size is known.

        Args:
            plan: The adapter to compare with, if it is on the line's base; else Unsloth's default on that base counts,
                with the same expert_rank.
        """
        model_id = line.model.model_id
        if model_id is None:
            return {}
        if plan.model.id != model_id:
            plan = resolve(self._models.get(model_id), LoraConfig(expert_rank=plan.expert_rank), "unsloth")
        sizes = zip(line.ranks, self.sizes(line), strict=True)
        return {r: rank_of_size(plan.parameters, size.parameters) for r, size in sizes if size.parameters}

    @writes
    def add(self, files: Sequence[Path]) -> Added:
        """Add tables of raw results and PEFT result files as studies; unreadable files are named with the reason."""
        from rankviz.catalog import own_studies

        owner, homes = self._workspace.rights.somebody(), self._workspace.own_homes
        if not files:
            return own_studies.Added([], 0, [])
        paths = [self._workspace.references.file(file) for file in files]
        children, about = self._workspace.children, units.counted(len(paths), "result file")
        with children.turn():
            reply = children.ask("results", {"paths": [*map(str, paths)]}, about=about, error=BadDataError)
        results = [own_studies.Result(**row) for row in reply["results"]]
        size = sum(len(result.text.encode()) for result in results)
        with self._adding, self._workspace.room.holding(size):
            added = own_studies.keep(homes, results, self._workspace.limits.result_files)
        kept = {*own_studies.kept_files(homes)}
        for path, result in zip(paths, results, strict=True):
            if result.kept_name in kept:
                self._workspace.temp.remove_upload(path, owner)
        return added

    @writes
    def remove(self, name: str) -> None:
        """Remove a file that was added, by a name from `added`."""
        from rankviz.catalog import own_studies

        self._workspace.rights.somebody()
        own_studies.remove(self._workspace.own_homes, name)

    def added(self) -> Sequence[str]:
        """The files that whoever asks has added here."""
        from rankviz.catalog import own_studies

        return own_studies.kept_files(self._workspace.own_homes)

    def subject(self, ref: str, name: str, expert_rank: int | str = "r") -> Subject:
        """name: of a use case."""
        from rankviz.catalog.models import find_model
        from rankviz.core.advice.use_case import use_case
        from rankviz.core.studies.nearest import Subject

        model = self._models.get(ref)
        try:
            family = find_model(self._models.all(), model.id).family
        except UnknownModelError:
            family = None
        return Subject(
            names=frozenset({model.id.lower(), ref.strip().lower()}),
            model_id=model.id,
            family=family,
            parameters=model.total_parameters,
            task_kinds=use_case(name).task_kinds,
            expert_rank=expert_rank,
        )

    def _tinkers_per_rank(self, line: Line) -> int | None:
        """Parameters per unit of r where Tinker trained the line and its base is in the catalogue; else None."""
        if line.study.expert_scheme != "shared-outer" or line.model.model_id is None:
            return None
        return shared_outer_per_rank(self._models.get(line.model.model_id))

    def _plan_of(self, line: Line) -> AdapterPlan | None:
        """Return the adapter of a line; None where the base has no row in the catalogue, or the study doesn't say its
        modules one by one."""
        from rankviz.core.studies.lines import module_names

        stated = line.first.target_modules
        targets = stated if stated == ALL_LINEAR else module_names(stated)
        if line.model.model_id is None or not targets:
            return None
        try:
            lora = LoraConfig(target_modules=targets, use_dora=line.first.method == "dora")
            return resolve(self._models.get(line.model.model_id), lora, "peft")
        except (InvalidSettingError, UnknownModelError):
            return None
