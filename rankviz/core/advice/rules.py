"""The rule of thumb about rank, and what other settings mean, as data with sources.

Nothing here is computed: live numbers come from core.cost.estimate, and what published sweeps say of a rank from
core.studies.findings; whoever shows the rule puts them beside it.
"""

from typing import NamedTuple

from rankviz.core.cost.question import ASSUMED_RANK

LORA = "LoRA, Hu et al. 2021, arXiv 2106.09685"
QLORA = "QLoRA, Dettmers et al. 2023, arXiv 2305.14314"
RSLORA = "rsLoRA, Kalajdzievski 2023, arXiv 2312.03732"
DORA = "DoRA, Liu et al. 2024, arXiv 2402.09353"
REGRET = "LoRA Without Regret, Schulman et al. 2025, Thinking Machines Lab"
UNSLOTH = "Unsloth documentation, LoRA hyperparameters guide"
RECOMMENDED_RANK = ASSUMED_RANK


class RankRule(NamedTuple):
    """One line of the rule of thumb."""

    r: int
    label: str
    kind: str
    """The kind of task that its published scores are of, as core.advice.advice names it."""
    use: str
    reason: str
    source: str


class SettingRule(NamedTuple):
    """One setting explained in at most two sentences."""

    name: str
    value: str
    meaning: str
    source: str


RANK_RULES = (
    RankRule(
        8,
        "8",
        "simple",
        "Simple tasks and quick experiments",
        "The smallest file and the fastest start. It may underfit if the task is far from what the base knows.",
        LORA,
    ),
    RankRule(
        16,
        "16",
        "instruction",
        "Standard instruction tuning",
        "Unsloth's default. Choose it if the file must be small.",
        f"{UNSLOTH}; {REGRET}",
    ),
    RankRule(
        32,
        "32",
        "complex",
        "Complex tasks and domain adaptation",
        "More capacity for a new domain, code or speech. The file and the optimizer states are twice those of r = 16.",
        UNSLOTH,
    ),
    RankRule(
        64,
        "64+",
        "all",
        "Near full fine-tuning capacity",
        "Diminishing returns. Useful with large data, or if the result must come close to full fine-tuning.",
        f"{REGRET}; {LORA}",
    ),
)

SETTINGS = (
    SettingRule(
        "Rank r",
        f"{RECOMMENDED_RANK}",
        "The inner size of the two small matrices trained for each targeted weight. A higher rank has more capacity, "
        "needs more memory and makes larger files; a lower rank is faster and smaller, but may underfit.",
        LORA,
    ),
    SettingRule(
        "alpha",
        "r or 2r",
        "The update is multiplied by alpha / r, so alpha changes the step size, not the capacity. To compare ranks in "
        "a short sweep, keep alpha fixed or tune the learning rate at each rank: with alpha = r the sweep "
        "measures the step size.",
        f"{UNSLOTH}; {REGRET}",
    ),
    SettingRule(
        "rsLoRA",
        "off",
        "Multiplies by alpha / sqrt(r) instead, which keeps the step size similar at high ranks. With the same alpha "
        "the step is larger.",
        RSLORA,
    ),
    SettingRule(
        "DoRA",
        "off",
        "Trains the magnitude of each weight's columns separately from their direction, one number per output. It can "
        "help at low ranks, but costs memory and time.",
        DORA,
    ),
    SettingRule(
        "Targets",
        "all linear layers",
        "Which modules get an adapter. Attention and MLP together learn better than attention alone, and the targets "
        "change size and memory more than the rank does.",
        f"{QLORA}; {REGRET}",
    ),
    SettingRule(
        "Dropout",
        "0",
        "With any value above 0, Unsloth does not use its fast kernels. Dropout helps little in short runs.",
        UNSLOTH,
    ),
    SettingRule(
        "Bias",
        '"none"',
        'With any value but "none", Unsloth does not use its fast kernels, and the adapter also changes the '
        "biases of the base.",
        UNSLOTH,
    ),
)
