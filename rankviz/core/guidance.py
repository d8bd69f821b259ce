"""The rule of thumb about rank, as data with sources, and one sentence of advice with its reason.

Nothing here is computed from a model: live numbers come from core.estimate and are put beside the rule by whoever
shows it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rankviz import units

LORA = "LoRA, Hu et al. 2021, arXiv 2106.09685"
QLORA = "QLoRA, Dettmers et al. 2023, arXiv 2305.14314"
RSLORA = "rsLoRA, Kalajdzievski 2023, arXiv 2312.03732"
DORA = "DoRA, Liu et al. 2024, arXiv 2402.09353"
REGRET = "LoRA Without Regret, Schulman et al. 2025, Thinking Machines Lab"
UNSLOTH = "Unsloth documentation, LoRA hyperparameters guide"
RECOMMENDED_RANK = 16


class RankRule(NamedTuple):
    """One line of the rule of thumb."""

    r: int
    label: str
    use: str
    reason: str
    source: str

    @property
    def recommended(self) -> bool:
        return self.r == RECOMMENDED_RANK


class Setting(NamedTuple):
    """What another setting means, in two sentences at most."""

    name: str
    value: str
    meaning: str
    source: str


RANK_RULES = (
    RankRule(
        8,
        "8",
        "Simple tasks and quick experiments",
        "The smallest file and the fastest start; may underfit once the task is far from what the base knows.",
        LORA,
    ),
    RankRule(
        16,
        "16",
        "Standard instruction tuning",
        "The recommended default: over 22 models with the learning rate tuned at each rank, the smallest rank within "
        "0.5 % of the best loss was at most 16 for 17.",
        f"{UNSLOTH}; sweeps published with {REGRET}",
    ),
    RankRule(
        32,
        "32",
        "Complex tasks and domain adaptation",
        "More capacity for a new domain, code or speech; twice the file and the optimizer states of 16.",
        UNSLOTH,
    ),
    RankRule(
        64,
        "64+",
        "Near full fine-tuning capacity",
        "Diminishing returns: of the same 22 models 4 gained up to 64 and 1 up to 128, on large data.",
        f"{REGRET}; {LORA}",
    ),
)

SETTINGS = (
    Setting(
        "Rank r",
        "16",
        "The width of the two small matrices trained beside each targeted weight. Higher means more capacity, more "
        "memory and larger files; lower is faster and smaller but may underfit.",
        LORA,
    ),
    Setting(
        "alpha",
        "r or 2r",
        "The update is multiplied by alpha / r, so alpha sets the step, not the capacity. To compare ranks in a short "
        "sweep hold alpha fixed, or tune the learning rate at each rank: at alpha = r the sweep measures step size.",
        f"{UNSLOTH}; {REGRET}",
    ),
    Setting(
        "rsLoRA",
        "off",
        "Multiplies by alpha / sqrt(r) instead, which keeps the step alike at high ranks. With the same alpha it is a "
        "larger step.",
        RSLORA,
    ),
    Setting(
        "DoRA",
        "off",
        "Trains the length of each weight's columns apart from their direction, one number an output. It can help at "
        "low ranks and costs memory and time.",
        DORA,
    ),
    Setting(
        "Targets",
        "all linear layers",
        "Which modules carry an adapter. Attention and MLP together learn better than attention alone, and the targets "
        "move size and memory more than rank does.",
        f"{QLORA}; {REGRET}",
    ),
    Setting(
        "Dropout",
        "0",
        "Anything above 0 leaves Unsloth's fast path. It helps little in short runs.",
        UNSLOTH,
    ),
    Setting(
        "Bias",
        '"none"',
        'Anything but "none" leaves Unsloth\'s fast path, and the adapter then changes the base without its B·A.',
        UNSLOTH,
    ),
)


def advise(said: Mapping[str, Any], r: int) -> str:
    """One sentence on the chosen rank with its reason.

    said: what core.estimate.as_json returned, with r among its ranks; its reason is the price of doubling, read from
    the row of 2r, or where that wasn't asked, from the file alone, which doubles with the rank.
    """
    rows = {row["r"]: row for row in said["ranks"]}
    chosen, doubled = rows[r], rows.get(2 * r)
    if doubled:
        file, memory = _difference(chosen, doubled)
        price = f"r = {2 * r} would add {units.file_size(file)} to the file and {units.memory_size(memory)} of memory"
    else:
        price = f"r = {2 * r} would add about {units.file_size(chosen['adapter_bytes'])} to the file"
    if chosen["fit"] == "does_not_fit":
        return (
            f"r = {r} does not fit this GPU, and rank is not the lever: {price}, so change batch, length, precision "
            "or targets first."
        )
    if r < 8:
        return f"r = {r} is small and may underfit: {price}, and 8 is where quick experiments usually start."
    if r < RECOMMENDED_RANK:
        return f"r = {r} suits simple tasks and quick experiments: {price}; 16 is the usual default."
    if r == RECOMMENDED_RANK:
        return f"Keep r = 16, the usual choice for instruction tuning: {price}, which rarely pays on a standard task."
    if r < 64:
        return f"r = {r} suits complex tasks and new domains: {price}, so go on only if a sweep shows a gain."
    return (
        f"r = {r} is near full fine-tuning capacity with diminishing returns: {price}; check against r = 16 before "
        "paying for it."
    )


def _difference(chosen: Mapping[str, Any], doubled: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes more in the file, and in memory as nvidia-smi shows."""
    return (
        doubled["adapter_bytes"] - chosen["adapter_bytes"],
        doubled["memory_bytes"]["device"] - chosen["memory_bytes"]["device"],
    )
