"""What a figure of a large adapter shows instead of every number: as much as a screen can, with the exact extremes."""

from collections.abc import Iterable, Sequence

MOST_POINTS = 2000
"""Of one figure, about."""
QUANTILES = {"highest": 1.0, "90 %": 0.9, "median": 0.5, "10 %": 0.1, "lowest": 0.0}


def spaced(count: int, most: int, *, always: Iterable[int] = ()) -> list[int]:
    """The whole numbers from 1 to count; of more than `most`, so many on a logarithmic scale, with both ends.

    always: numbers that are among them in any case.
    """
    if count <= most:
        return list(range(1, count + 1))
    return sorted({round(count ** (i / (most - 1))) for i in range(most)} | set(always))


def quantiles(lines: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Of lines that start at the same index, at each index the QUANTILES: values that one of the lines has there."""
    longest = max(map(len, lines), default=0)
    columns = [sorted(line[i] for line in lines if i < len(line)) for i in range(longest)]
    return {name: [column[round(share * (len(column) - 1))] for column in columns] for name, share in QUANTILES.items()}


def grouped(names: Sequence[str], most: int) -> list[Sequence[str]]:
    """Neighbours together, as few as give at most `most` groups."""
    size = max(1, -(-len(names) // max(1, most)))
    return [names[i : i + size] for i in range(0, len(names), size)]
