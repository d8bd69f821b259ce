"""Estimates of several runs at one time: what they have in common is looked up once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from rankviz.core.runs.estimate import RunEstimate, estimate_run, paced, workload_of

if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.api.runs.measured import Measured
    from rankviz.api.workspace import Workspace
    from rankviz.core.cost.device import Device
    from rankviz.core.cost.pace import Paces
    from rankviz.core.model.spec import ModelSpec
    from rankviz.core.quantity import Range
    from rankviz.core.runs.request import RunRequest

Found = TypeVar("Found")


class Estimator:
    """Used for one answer, and then given up: what it has looked up may change."""

    def __init__(self, workspace: Workspace, models: Models, measured: Measured):
        self._workspace, self._models, self._measured = workspace, models, measured
        self._known: dict[Hashable, Any] = {}

    def paces(self, request: RunRequest, environment: Mapping[str, Any], **when: float | None) -> Paces:
        """What has finished there says of the time of such a run; the same for every rank of a sweep. when: as
        Measured.paces takes it."""
        model, device, rows = self._of(request, environment)
        workload = self._once(
            ("workload", request.base, request.data_apart, request.lora.use_dora, request.training, device),
            lambda: workload_of(model, request, device, rows),
        )
        evidence = self._once("evidence", self._measured.evidence)
        return self._measured.paces(workload, environment, evidence=evidence, **when)

    def estimate(self, request: RunRequest, environment: Mapping[str, Any], paces: Paces) -> RunEstimate:
        """Memory and time of a run."""
        model, device, rows = self._of(request, environment)
        key = "estimate", request.base, request.data, request.lora, request.training, _machine(environment), device
        estimate = self._once(key, lambda: self._formulas(model, request, device, rows, environment))
        return paced(estimate, paces)

    def _formulas(
        self,
        model: ModelSpec,
        request: RunRequest,
        device: Device,
        rows: Range | None,
        environment: Mapping[str, Any],
    ) -> RunEstimate:
        training = request.training.without_auto(device)
        tokens = training.per_device_train_batch_size * (rows.expected if rows else training.max_length)
        memory = self._measured.memory(model, request.lora, training, tokens, environment)
        if memory is None:
            return self._measured.formulas(model, request, device, rows)
        return estimate_run(model, request, device, self._workspace.assumptions, rows, memory)

    def _of(self, request: RunRequest, environment: Mapping[str, Any]) -> tuple[ModelSpec, Device, Range | None]:
        """Model, device and tokens of a row."""
        return (
            self._once(("model", request.base), lambda: self._models.get(request.base)),
            self._once(_machine(environment), lambda: self._workspace.device(environment)),
            self._once(("rows", request.data), lambda: self._measured.tokens.of_rows(request)),
        )

    def _once(self, key: Hashable, find: Callable[[], Found]) -> Found:
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]


def _machine(environment: Mapping[str, Any]) -> Hashable:
    """All that an estimate takes from it but how busy it was."""
    from rankviz.core.cost.pace import machine_of

    names = ("device", "device_name", "cpu_count", "cpu_bf16", "device_memory_bytes")
    return "device", machine_of(environment), *(environment.get(name) for name in names), "versions" in environment
