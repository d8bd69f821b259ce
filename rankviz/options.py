"""Defines the options of a question and of a sweep once: name, type, default, bounds and help.

The command line and the HTTP and MCP endpoints get their arguments from this table (`takes`), and the page reads its
address with it (`Option.read`). `lora_of`, `training_of`, `question_of` and `sweep_of` make the core's objects from a
mapping of options; an option left out has the object's own default. The core checks the values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from inspect import Parameter, cleandoc, signature
from typing import Any, Literal, get_args

from rankviz.core.bounds import one_of, whole
from rankviz.core.cost import setup
from rankviz.core.cost.question import ASSUMED_RANK, MAX_USD_PER_HOUR, Question
from rankviz.core.cost.setup import MAX_EPOCHS, MAX_EXAMPLE_TOKENS, MAX_EXAMPLES, TrainingData, TrainingSetup
from rankviz.core.images import ASSUMED_SIZE, MAX_IMAGES
from rankviz.core.lora.config import EXPERT_RANKS, FLAGS, MAX_RANK, MOE_SCHEMES, UNSLOTH_CLASSES, LoraConfig
from rankviz.core.lora.targets import names_in, targets_in
from rankviz.errors import InvalidSettingError

MAX_TEXT = 300
"""Most characters of a text option in the page's address."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a question or a sweep."""

    name: str
    kind: Any
    default: Any
    help: str
    """Help text; empty where the list of choices suffices."""
    field: str = ""
    """Name of the option's field in the core, where it differs from `name`."""
    high: float | None = None
    """Highest number allowed. The lowest is 1 for whole numbers and 0 for other numbers."""
    choices: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Spellings on the command line, where they differ from --name."""

    @property
    def annotation(self) -> Any:
        """Type of the argument of an endpoint: `kind`, or one of the choices where it takes no other text."""
        if not self.choices or self.high:
            return self.kind
        return Literal[self.choices] | None if type(None) in get_args(self.kind) else Literal[self.choices]

    @property
    def description(self) -> str:
        """Sentence on the values that the option takes."""
        return self.help or f"{', '.join(self.choices[:-1])} or {self.choices[-1]}."

    def read(self, text: str) -> Any:
        """Parse a value from the page's address; raise ValueError with the allowed values for another text."""
        kinds, choices = str(self.kind), ", ".join(self.choices)
        if text in self.choices:
            return text
        if "bool" in kinds:
            if text not in ("0", "1"):
                raise ValueError("0 or 1")
            return text == "1"
        if "int" in kinds or (choices and self.high):
            if not (text.isascii() and text.isdigit() and len(text) <= 20 and 1 <= int(text) <= self.high):
                raise ValueError(f"{f'one of {choices}, or ' * bool(choices)}a whole number from 1 to {self.high:,}")
            return str(int(text)) if choices else int(text)
        if choices:
            raise ValueError(f"one of {choices}")
        if "float" in kinds and self.high is not None:
            try:
                value = float(text)
            except ValueError:
                value = -1.0
            if not 0 <= value <= self.high:
                raise ValueError(f"a number from 0 to {self.high:,}")
            return int(value) if value.is_integer() else value
        if len(text) > MAX_TEXT:
            raise ValueError(f"at most {MAX_TEXT} characters long")
        return text


_FLAG_HELP = "Unsloth's flag for {} of a multimodal model; empty for the class's default."
_CLASS_HELP = "Under Unsloth: FastLanguageModel or FastModel. Names reach other layers in each."
_EXPERTS_HELP = "Rank of each expert: r, r/active (r / experts per token), r/all (r / all experts) or a number."
_STRATEGY_HELP = "Over several GPUs: ddp (copies of all), zero2 (states divided), fsdp or zero3 (base divided too)."
_MODES_HELP = "sweep (each rank), quick (two ranks and a repeat), fast (the highest, truncated) or rate (one rank)."
_RANKS_HELP = "Ranks; empty for 4, 16, 64 of a sweep, 4 and 64 of a quick look, 1 to 64 of a fast curve, 16 of a rate."
_RATES_HELP = "Each rank is trained at each; with rate one, and three times it, unless two are given."
_PRECISION_HELP = "auto, bf16, fp32, and on a GPU nf4-dq, int8 or fp16."
_ENGINE_HELP = "Where runs train, such as local, hf-jobs or ray; empty for the usual place (resume: the sweep's)."
_FLAVOR_HELP = "With hf-jobs: the machine, such as l4x1; empty for the usual one (resume: the sweep's)."
_SPEND_HELP = (
    "With hf-jobs: US dollars that all jobs of the sweep may cost, earlier ones included; empty for the usual limit "
    "(resume: the sweep's)."
)
_REPEAT_HELP = "With quick: train the lower rank once more with another seed, to measure the noise."
_MOE_HELP = "Experts: default, linear-only, peft-remap, unsloth or target-parameters."
_ACCUM_HELP, _ACCUM_FIELD = "Micro-steps per optimizer step.", "gradient_accumulation_steps"
_STEPS_HELP = "Optimizer steps; empty for the epochs of the data, or 1,000 (an export: 60)."
_MEAN_HELP = "Mean tokens per example, chat template included."
_EPOCHS_HELP = "Passes over the examples; empty for 1 without steps or tokens."
_UTILIZATION_HELP = "Share of the GPU that colocated vLLM takes; empty for the framework's (TRL 0.3, Unsloth 0.5)."
_VLLM_HELP = "With grpo: colocate (vLLM in the trainer's process), server (vLLM on another GPU) or none (transformers)."
_FORMAT_HELP = (
    "colab (a notebook for a free T4), script or notebook (for the framework), unsloth, trl, peft, adapter-config, "
    "axolotl, llamafactory or mlx (for a Mac); for a trained adapter merge, merge-unsloth or gguf."
)
_RATE_HELP = "Left out: a usual rate, or the rate for the use case."
_TOLERANCE_HELP = (
    'Differences that do not matter: nats, points, or a text such as "2%" of the gain over the base. Left out: '
    "0.02 nats or 1 point."
)
_BITS_HELP = "Bits of a weight of the served base: 16, 8 or 4; a checkpoint published quantized stays so."
_USE_CASES = ("simple", "instruction", "complex", "near-full", "pretraining", "rl")
_LORAPLUS_HELP = "LoRA+: learning rate of lora_B over that of lora_A, 1 or more. Memory and time stay the same."

_QUESTION = (
    Option("model", str, "", "A catalogue id, an alias of one, or a Hub id."),
    Option("ranks", list[int], [ASSUMED_RANK], "LoRA ranks, 1 to 1024.", high=MAX_RANK, flags=("-r", "--rank")),
    Option("r", int, ASSUMED_RANK, "LoRA rank, 1 to 1024.", high=MAX_RANK),
    Option("alpha", str | float, "r", "r, 2r or a number."),
    Option("targets", str, "unsloth", "all-linear, attention, mlp, qv, unsloth, or module names separated by commas."),
    Option("modules_to_save", str, "", "Modules to train and save in full, such as lm_head,embed_tokens."),
    Option("gpu", str | None, "l4", "Id or name of a GPU (`rankviz gpus` lists them); empty for no GPU."),
    Option("usd_per_hour", float | None, None, "Your own price instead of the table's, in USD.", high=MAX_USD_PER_HOUR),
)
_LORA = (
    Option("rslora", bool, False, "Scale by alpha / sqrt(r).", "use_rslora"),
    Option("dora", bool, False, "Add DoRA's magnitude vectors.", "use_dora"),
    Option("expert_rank", str | float, "r", _EXPERTS_HELP, high=MAX_RANK, choices=EXPERT_RANKS),
    Option("unsloth_class", str, "FastLanguageModel", _CLASS_HELP, choices=UNSLOTH_CLASSES),
    Option("text_only", bool, False, "Under Unsloth, load the text model of a multimodal checkpoint alone."),
    *(Option(flag, bool | None, None, _FLAG_HELP.format(flag[9:].replace("_", " "))) for flag in FLAGS),
    Option("moe", str, "default", _MOE_HELP, "moe_scheme", choices=MOE_SCHEMES),
)
_TRAINING = (
    Option("precision", str, "nf4-dq", "", choices=setup.PRECISIONS),
    Option("framework", str, "unsloth", "", choices=("unsloth", "trl", "peft")),
    Option("batch", int, 2, "Batch size per micro-step.", "per_device_train_batch_size", setup.MAX_BATCH),
    Option("accumulation", int, 4, _ACCUM_HELP, _ACCUM_FIELD, setup.MAX_ACCUMULATION, flags=("--accum",)),
    Option("max_length", int, 2048, "Maximum tokens per example, padding included.", high=setup.MAX_LENGTH),
    Option("optim", str, "adamw_8bit", "", choices=setup.OPTIMIZERS),
    Option("checkpointing", str, "unsloth", "", "gradient_checkpointing", choices=setup.CHECKPOINTING),
    Option("loss_path", str, "fused", "", choices=setup.LOSS_PATHS),
    Option("gpus", int, 1, "GPUs of one machine that train together, each with this batch.", high=setup.MAX_GPUS),
    Option("strategy", str, "ddp", _STRATEGY_HELP, choices=setup.STRATEGIES),
    Option("offload", bool, False, "Keep the shards of fsdp or zero3 in host memory."),
    Option("tokens", int | None, None, "Tokens to train on, instead of steps.", high=setup.MAX_TRAINING_TOKENS),
    Option("steps", int | None, None, _STEPS_HELP, "max_steps", setup.MAX_TRAINING_TOKENS),
)
_DATA = (
    Option("examples", int | None, None, "Number of different training examples.", high=MAX_EXAMPLES),
    Option("example_tokens", int | None, None, _MEAN_HELP, "mean_tokens", MAX_EXAMPLE_TOKENS),
    Option("longest_tokens", int | None, None, "Tokens of the longest example.", high=MAX_EXAMPLE_TOKENS),
    Option("epochs", float | None, None, _EPOCHS_HELP, "num_train_epochs", MAX_EPOCHS),
)
_COLUMNS_HELP = "Columns of the file, such as instruction=question,output=answer; empty: as their names tell."
_GRPO = (
    Option("num_generations", int, 8, "With grpo: completions of one prompt.", high=setup.MAX_GENERATIONS),
    Option("max_prompt_length", int, 512, "With grpo: tokens of the longest prompt.", high=setup.MAX_LENGTH),
    Option("max_completion_length", int, 512, "With grpo: tokens of the longest completion.", high=setup.MAX_LENGTH),
    Option("vllm_mode", str, "colocate", _VLLM_HELP, choices=get_args(setup.VllmMode)),
    Option("vllm_gpu_memory_utilization", float | None, None, _UTILIZATION_HELP, high=1),
    Option("vllm_enable_sleep_mode", bool, False, "Colocated vLLM frees memory during updates (Unsloth: standby)."),
    Option("beta", float, 0.0, "With grpo: weight of the KL term.", high=setup.MAX_BETA),
)
_METHOD = Option("method", str, "sft", "sft (supervised) or grpo (reinforcement learning).", choices=setup.METHODS)
_IMAGES = (
    Option("images", int | None, None, "Images in every example, for a model that sees.", high=MAX_IMAGES),
    Option("image_size", str | None, None, f"Width x height of an image in pixels; left out: {ASSUMED_SIZE}."),
)
_BASE_HELP = "embedded (SmolLM2-135M-Instruct), a Hub id, or a folder (on a machine of your own)."
_FILE_HELP = "phonemes, syllables, pairs, a Hub id, or a JSONL, JSON, CSV or Parquet file (over HTTP: uploaded first)."
_SWEEP = (
    Option("model", str, "embedded", _BASE_HELP, "base"),
    Option("data", str, "phonemes", _FILE_HELP),
    Option("columns", str, "", _COLUMNS_HELP),
    Option(
        "held_out", int | None, None, "Held-out examples; empty for 32 of a quick look, else 64.", "held_out_examples"
    ),
    Option("exact_match", int, 0, "Held-out prompts to answer and compare; 0 for none.", "exact_match_examples"),
    Option("answers", int, 4, "Held-out prompts whose answers are kept as text; 0 for none.", "shown_answers"),
)
_ANSWERS = (
    Option("prices", dict[str, float] | None, None, "Your own prices in USD per hour by GPU."),
    Option("use_case", str, "instruction", "", choices=_USE_CASES),
    Option("forgetting", bool, False, "The base model must keep its abilities."),
    Option("parameters", float | None, None, "Number of parameters of a model that has no name here, such as 125e6."),
    Option("format", str, "script", _FORMAT_HELP),
    Option("learning_rate", float | None, None, _RATE_HELP, flags=("--lr",)),
    Option("loraplus_lr_ratio", float | None, None, _LORAPLUS_HELP),
    Option("runs", str | None, None, "Id of a sweep of this model, with finished runs at two ranks or more."),
    Option("base", bool | None, None, "No longer used: the band does not depend on it."),
    Option("metric", str | None, None, "score (points) or loss (% of the loss).", choices=("score", "loss")),
    Option("words", str, "", "Words of a name, family or licence in any order, such as qwen3 4b; or an address."),
    Option("limit", int, 50, "Number of entries, 1 to 500."),
    Option("offset", int, 0, "Number of entries to skip."),
    Option("sweep_id", str, "", "From start_sweep or runs."),
    Option("tolerance", str | float | None, None, _TOLERANCE_HELP),
    Option("base_bits", str, "16", _BITS_HELP, choices=("16", "8", "4")),
    Option("context", int | None, None, "Tokens of one sequence on the server; empty for an assumed range."),
    Option("sequences", int | None, None, "Sequences at once on the server; empty for an assumed range."),
    Option("adapter", str, "", "The id of a run of yours, a Hub id, sample, or the path of a zip that you uploaded."),
    Option("energy", float | None, None, "Instead of a rank: share of each module's energy to keep, such as 0.99."),
    Option("dtype", str | None, None, "fp32, bf16 or fp16. Left out: unchanged.", choices=("fp32", "bf16", "fp16")),
)
GRPO = (_METHOD.name, *(each.name for each in _GRPO))
OPTIONS = {each.name: each for each in (*_QUESTION, *_LORA, *_TRAINING, *_DATA, *_IMAGES, _METHOD, *_GRPO)}
SETUP = ("precision", "framework", "batch", "accumulation", "max_length", "steps", "gpu")
SERVER = ("base_bits", "context", "sequences")
SEVERAL = ("gpus", "strategy", "offload")
DATA = tuple(each.name for each in _DATA)
IMAGES = tuple(each.name for each in _IMAGES)
ADAPTER = ("targets", "rslora", "dora", "expert_rank", "unsloth_class", "text_only", *FLAGS)
"""Options of an adapter that sweeps and probes train."""
UNSLOTH = ("unsloth_class", *FLAGS)
SERVED = (
    *("targets", "alpha", "gpu", *SERVER, "precision", "framework", "rslora", "dora", "modules_to_save", "moe"),
    *(*UNSLOTH, "text_only", "expert_rank"),
)
"""Options of `serving` after model and rank: those of the adapter, and of the server."""
MORE = (
    *(*UNSLOTH, *DATA, "text_only", "expert_rank", "rslora", "dora", "modules_to_save", "moe"),
    *("optim", "checkpointing", "loss_path", "tokens", "usd_per_hour", *IMAGES, *SEVERAL),
)
"""Options of a question after targets, alpha and SETUP, for the command line, HTTP and MCP, in this order."""
_AUTO = {"default": "auto", "help": "unsloth, hf, none, or auto: the framework's own."}
_CHECKPOINTING = replace(OPTIONS["checkpointing"], **_AUTO, choices=("auto", *setup.CHECKPOINTING))
EVERY = OPTIONS | {each.name: each for each in (*_ANSWERS, _CHECKPOINTING)}
"""Options of a question, and the further options of other operations."""

TRAIN_OPTIONS = OPTIONS | {
    each.name: each
    for each in (
        *_SWEEP,
        Option("mode", str, "sweep", _MODES_HELP, choices=("sweep", "quick", "fast", "rate")),
        Option("ranks", list[int] | None, None, _RANKS_HELP, flags=("-r", "--rank")),
        Option("independent", list[int] | None, None, "With fast: lower ranks that are also trained by themselves."),
        Option("alpha", str | float, "32", "A number for all ranks, r or 2r."),
        Option("learning_rates", list[float], [1e-3], _RATES_HELP, flags=("--lr",)),
        Option("seeds", int | None, None, "Per rank and learning rate; empty for 3 of a sweep and 1 of other modes."),
        Option("repeat", bool, True, _REPEAT_HELP),
        Option("engine", str | None, None, _ENGINE_HELP),
        Option("flavor", str | None, None, _FLAVOR_HELP),
        Option("spend", float | None, None, _SPEND_HELP),
        replace(OPTIONS["steps"], help="Optimizer steps per run; empty for 24 of a quick look, else 40."),
        replace(OPTIONS["batch"], default=8),
        replace(OPTIONS["accumulation"], default=1),
        replace(OPTIONS["max_length"], default=256),
        replace(OPTIONS["precision"], default="auto", help=_PRECISION_HELP, choices=("auto", *setup.PRECISIONS)),
        *(replace(OPTIONS[name], default="auto") for name in ("optim", "checkpointing", "loss_path")),
    )
}
"""Options of a sweep, with the defaults of SweepRequest."""


def described(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return what a function's docstring says of it, and of each argument in a line under "Args:"."""
    summary, _, lines = cleandoc(function.__doc__ or "").partition("\n\nArgs:\n")
    return summary, dict(line.strip().split(": ", 1) for line in lines.splitlines())


def takes(
    *names: str, table: Mapping[str, Option] = OPTIONS, make: Callable[[Option], Parameter] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that replaces a function's **options by one argument for each name, in this order. Names may
    include the function's own arguments; own arguments that are not named come last, and a repeated name counts once.
    Without `make`, the docstring gets a line under "Args:" for each argument, from which HTTP and MCP schemas are made.
    make: Makes the parameter of an option."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = {each.name: each for each in signature(function).parameters.values() if each.kind != each.VAR_KEYWORD}
        kind = Parameter.KEYWORD_ONLY if make else Parameter.POSITIONAL_OR_KEYWORD
        build = make or (lambda each: Parameter(each.name, kind, default=each.default, annotation=each.annotation))
        parameters = [own.pop(name) if name in own else build(table[name]) for name in dict.fromkeys(names)]
        parameters = [each.replace(kind=kind) for each in (*parameters, *own.values())]
        whole = signature(function).replace(parameters=parameters)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = whole.bind(*args, **kwargs)
            bound.apply_defaults()
            return function(**bound.arguments)

        call.__signature__ = whole
        if make is None:
            summary, meanings = described(function)
            args = (
                f"    {each.name}: {meanings.get(each.name) or table[each.name].description}" for each in parameters
            )
            call.__doc__ = "\n".join([f"{summary}\n\nArgs:", *args])
            call.__annotations__ = {each.name: each.annotation for each in parameters} | {
                "return": whole.return_annotation
            }
        return call

    return decorate


def _fields(options: Mapping[str, Any], table: tuple[Option, ...]) -> dict[str, Any]:
    """Return the given options that `table` lists, by their field names in the core."""
    return {each.field or each.name: options[each.name] for each in table if each.name in options}


def lora_of(options: Mapping[str, Any]) -> LoraConfig:
    """Return the LoraConfig of these options, without rank and alpha. `targets`: a text or a tuple of names."""
    lists = {}
    if "targets" in options:
        targets = options["targets"]
        lists["target_modules"] = targets_in(targets) if isinstance(targets, str) else targets
    if "modules_to_save" in options:
        lists["modules_to_save"] = names_in(options["modules_to_save"])
    return LoraConfig(**lists, **_fields(options, _LORA))


def data_of(options: Mapping[str, Any], measured: TrainingData | None = None) -> TrainingData | None:
    """Return the training data that these options describe; None where they and `measured` say nothing. measured:
    Values measured from a file, which the options override."""
    given = {name: value for name, value in _fields(options, _DATA).items() if value is not None}
    start = measured or TrainingData()
    if "longest_tokens" in given:
        given["longest_is_upper"] = False
    if given.keys() & {"mean_tokens", "longest_tokens"}:
        given["lengths"] = ()
    data = replace(start, **given)
    return None if data == TrainingData() else data


def training_of(
    options: Mapping[str, Any], data: TrainingData | None = None, start: TrainingSetup | None = None
) -> TrainingSetup:
    """Return the TrainingSetup of these options. start: Values of the options that are left out."""
    grpo = {each.name: options[each.name] for each in _GRPO if options.get(each.name, each.default) != each.default}
    fixed = [
        x.flags[0] if x.flags else x.name
        for x in (*_TRAINING, *_DATA)
        if (x.field or x.name) in ("max_length", "mean_tokens", "longest_tokens")
        and options.get(x.name, x.default) != x.default
    ]
    of_grpo = setup.grpo_of(options.get("method", "sft"), grpo, fixed)
    made = replace(start or TrainingSetup(), **_fields(options, (*_TRAINING, *_IMAGES)), data=data)
    return replace(made, grpo=of_grpo) if of_grpo else made


def question_of(options: Mapping[str, Any], data: TrainingData | None = None) -> Question:
    """Return the Question of these options. Its ranks are the option `ranks`, or the single rank `r`. data: Training
    data to use in place of the options that describe data."""
    ranks = options.get("ranks", options.get("r"))
    if not isinstance(ranks, list | tuple | None):
        ranks = (ranks,)
    return Question(
        model_id=options["model"],
        ranks=(ASSUMED_RANK,) if ranks is None else tuple(ranks),
        lora_alpha=str(options.get("alpha", "r")),
        lora=lora_of(options),
        training=training_of(options, data or data_of(options)),
        gpu=options.get("gpu", OPTIONS["gpu"].default) or None,
        usd_per_hour=options.get("usd_per_hour"),
    )


def sweep_of(options: Mapping[str, Any]) -> Any:
    """Return the SweepRequest of these options. `SweepRequest.validate` checks the other values."""
    from rankviz.core.runs import request as runs  # an estimate does not need it

    mode = options.get("mode", "sweep")
    one_of(mode, "mode", tuple(runs.MODE_RANKS))
    options = {**options, **{name: n for name, n in runs.MODE_SIZE[mode].items() if options.get(name) is None}}
    ranks, independent, rates, seeds = map(options.get, ("ranks", "independent", "learning_rates", "seeds"))
    trained, truncated = tuple(runs.MODE_RANKS[mode] if ranks is None else ranks), ()
    if mode == "fast":
        trained, truncated = runs.fast_ranks(trained, independent or ())
    elif independent:
        raise InvalidSettingError(f"Independent runs belong to a fast curve (got the mode {mode}).")
    if mode == "quick" and seeds not in (None, 1):
        raise InvalidSettingError(f"A quick look has one seed (got {seeds}). Choose a sweep for more.")
    if seeds is not None:
        whole(seeds, "The number of seeds", 1, runs.MAX_RUNS)
    request = runs.SweepRequest(
        ranks=trained,
        cut_ranks=truncated,
        lora_alpha=str(options.get("alpha", runs.SWEEP_ALPHA)),
        learning_rates=(1e-3,) if rates is None else tuple(rates),
        seeds=tuple(range(runs.MODE_SEEDS[mode] if seeds is None else seeds)),
        lora=lora_of(options),
        training=training_of(options, start=runs.SHORT_TRAINING),
        **_fields(options, _SWEEP),
    )
    if mode == "quick":
        return runs.quick_look(request, trained, repeat=options.get("repeat", True))
    return runs.rate_first(request, trained) if mode == "rate" else request
