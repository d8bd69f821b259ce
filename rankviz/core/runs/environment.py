"""Where a run or a probe ran and what it found there, as its first event holds it."""

from collections.abc import Iterable
from typing import Annotated, Literal, TypedDict

from rankviz.core.bounds import Between, Bytes, Count, Items, Seconds, Word

Processors = Annotated[int, Between(1, 100_000)]


class Environment(TypedDict, total=False):
    """Where a run or a probe ran and what it found there; other plain values may stand beside these. None is not
    known."""

    device: Literal["cuda", "cpu"]
    device_name: Word | None
    device_memory_bytes: Bytes | None
    driver: Word | None
    cuda: Word | None
    capability: Word | None
    block_compile: bool
    cpu_count: Processors | None
    cpu_bf16: bool | None
    threads: Processors
    python: Word
    platform: Word
    rankviz: Word
    versions: dict[Word, Word | None]
    """By library."""
    base: Word
    loaded_from: Word
    base_dtype: Word
    model_fingerprint: Word
    data_fingerprint: Word
    total_parameters: Count
    train_examples: Count
    held_out_examples: Count
    precision: Word
    optim: Word
    target_modules: Annotated[tuple[Word, ...], Items(0, 10_000)] | Word
    load_average: Annotated[float, Between(0, 10**6)] | None
    """Processes that ran or waited over the minute before the base began to load, or before the run where an earlier
    one had it loaded."""
    loading_own_cpu_seconds: Seconds | None
    """Of the run that loaded the base, and so is the next; as in StepLogged."""
    loading_waited_cpu_seconds: Seconds | None


def fingerprints(environments: Iterable[Environment]) -> frozenset[str]:
    """Of the data that was read there, as far as that is known."""
    return frozenset(where.get("data_fingerprint", "") for where in environments) - {""}
