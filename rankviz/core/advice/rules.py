"""The rule of thumb about rank, and what other settings mean, as data with sources.

Nothing here is computed: live numbers come from core.cost.estimate, and what published sweeps say of a rank from
core.studies.findings; whoever shows the rule puts them beside it.
"""

from typing import NamedTuple

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
        "The recommended default.",
        f"{UNSLOTH}; {REGRET}",
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
        "Diminishing returns; worth it with large data, or where full fine-tuning is the measure.",
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
