"""Prints the outline and the spectrum of a trained adapter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz.errors import BadAdapterError
from rankviz.trained.read import read_adapter
from rankviz.trained.resize import outline_json, plan_json, planned_truncations, spectrum, spectrum_json
from rankviz.worker.answering import answer, request_in


def main(argv: Sequence[str]) -> int:
    request = request_in(argv[0])
    return answer(
        lambda: opened([Path(path) for path in request["paths"]], request["max_bytes"], request["max_values"])
    )


def opened(paths: Sequence[Path], max_bytes: int, max_values: int) -> Mapping[str, Any]:
    """max_values: of singular values, and of tensors in the file."""
    adapter = read_adapter(paths, max_bytes=max_bytes)
    values = sum(module.r * module.experts for module in adapter.modules)
    if (number := max(values, len(adapter.file.tensors))) > max_values:
        raise BadAdapterError(
            f"{adapter.name} has {number:,} singular values or tensors, more than the {max_values:,} allowed here."
        )
    values = spectrum(adapter)
    return {
        "outline": outline_json(adapter.outline),
        "spectrum": spectrum_json(values),
        "truncations": [[each, plan_json(planned)] for each, planned in planned_truncations(adapter.outline, values)],
    }
