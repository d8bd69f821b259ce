"""Block numbers as text: (0, 1, 2, 3) is "0-3", (3, 7, 11) is "3-11/4", and both together "0-3,7-11/4"."""

from collections.abc import Iterable


def encode_blocks(blocks: Iterable[int]) -> str:
    """The shortest list of runs, each an arithmetic progression, in rising order."""
    rest = list(blocks)
    runs = []
    while rest:
        step = rest[1] - rest[0] if len(rest) > 1 else 1
        length = 1
        while length < len(rest) and rest[length] - rest[length - 1] == step:
            length += 1
        if length < 3 and step != 1:
            length = 1
        first, last = rest[0], rest[length - 1]
        runs.append(str(first) if length == 1 else f"{first}-{last}" + (f"/{step}" if step != 1 else ""))
        rest = rest[length:]
    return ",".join(runs)


def decode_blocks(text: str) -> tuple[int, ...]:
    """Undoes encode_blocks; "" is no block."""
    blocks: list[int] = []
    for run in text.split(",") if text else ():
        span, _, step = run.partition("/")
        first, _, last = span.partition("-")
        blocks.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return tuple(blocks)
