"""Take it away: scripts with the chosen values.

Text only; nothing is computed here. tests/test_export.py binds every call in the scripts to the installed library's
real signature.
"""

from collections.abc import Sequence

from rankviz.core.lora import LoraConfig
from rankviz.core.training import TrainingSetup

UNSLOTH_SCRIPT = """\
from unsloth import FastLanguageModel  # before trl, which it patches
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

model, tokenizer = FastLanguageModel.from_pretrained(
    model_name={model_id!r},
    max_seq_length={max_length},
    load_in_4bit={load_in_4bit},
    load_in_8bit={load_in_8bit},
)

model = FastLanguageModel.get_peft_model(
    model,
    r={r},
    lora_alpha={lora_alpha},
    target_modules={target_modules},
    lora_dropout=0,  # 0 and "none" keep Unsloth's fast path
    bias="none",
    use_gradient_checkpointing={use_gradient_checkpointing},
    use_rslora={use_rslora},
    modules_to_save={modules_to_save},
    random_state=3407,{extra}
)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}

{trainer}trainer.train()
model.save_pretrained("adapter")
"""

TRL_SCRIPT = """\
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

{model}
{lora}
{trainer}trainer.model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
trainer.train()
trainer.save_model("adapter")
"""

PEFT_SCRIPT = """\
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

{model}{prepare}
{lora}
model = get_peft_model(model, lora)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}

# Train it with transformers.Trainer or a loop of your own: TRL's SFTTrainer would cast the adapter of a quantized base
# to bf16, and the file would be half of what RankViz says.

model.save_pretrained("adapter")
"""

MODEL = """\
model = AutoModelForCausalLM.from_pretrained(
    {model_id!r},
    dtype={dtype},
    quantization_config={quantization_config},
)
"""

LORA = """\
lora = LoraConfig(
    r={r},
    lora_alpha={lora_alpha},
    target_modules={target_modules},
    lora_dropout=0,
    bias="none",
    use_rslora={use_rslora},
    use_dora={use_dora},
    modules_to_save={modules_to_save},
    task_type="CAUSAL_LM",{extra}
)
"""

TRAINER = """\
trainer = SFTTrainer(
    model=model,
    {with_model},
    train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
    args=SFTConfig(
        output_dir="outputs",
        max_length={max_length},
        per_device_train_batch_size={per_device_train_batch_size},
        gradient_accumulation_steps={gradient_accumulation_steps},
{checkpointing}        max_steps={max_steps},
        learning_rate=2e-4,
        optim={optim!r},
        report_to="none",
    ),
)
"""


def script(
    lora: LoraConfig,
    setup: TrainingSetup,
    *,
    model_id: str,
    target_modules: str | Sequence[str],
    target_parameters: Sequence[str] = (),
    modules_to_save: Sequence[str] = (),
    adapter_parameters: int,
) -> str:
    """A script for this adapter: it trains with Unsloth or with TRL; for plain PEFT it stops before the training.

    target_modules: as PEFT wants it, names or "all-linear". target_parameters: fused experts, where the scheme
    names them. modules_to_save: with what Unsloth moves there from the targets.
    """
    values = {
        "model_id": model_id.removesuffix(":whole"),
        "max_length": setup.max_length,
        "r": lora.r,
        "lora_alpha": int(lora.lora_alpha) if lora.lora_alpha == int(lora.lora_alpha) else lora.lora_alpha,
        "target_modules": _literal(target_modules),
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "modules_to_save": list(modules_to_save) or None,
        "per_device_train_batch_size": setup.per_device_train_batch_size,
        "gradient_accumulation_steps": setup.gradient_accumulation_steps,
        "max_steps": setup.total_steps if setup.steps or setup.tokens else 60,
        "optim": setup.optim,
        "adapter_parameters": adapter_parameters,
    }
    extra = f"\n    target_parameters={_literal(target_parameters)}," if target_parameters else ""
    if lora.framework == "unsloth":
        return UNSLOTH_SCRIPT.format(
            **values,
            load_in_4bit=setup.precision in ("nf4", "nf4-dq"),
            load_in_8bit=setup.precision == "int8",
            use_gradient_checkpointing={"unsloth": '"unsloth"', "hf": "True", "none": "False"}[setup.checkpointing],
            extra=extra + ("\n    use_dora=True," if lora.use_dora else ""),
            trainer=TRAINER.format(**values, with_model="processing_class=tokenizer", checkpointing=""),
        )
    model = MODEL.format(
        **values,
        dtype={"fp16": "torch.float16", "fp32": "torch.float32"}.get(setup.precision, "torch.bfloat16"),
        quantization_config=_quantization(setup.precision),
    )
    config = LORA.format(**values, extra=extra)
    if lora.framework == "peft":
        prepare = "model = prepare_model_for_kbit_training(model)\n" if setup.quantized else ""
        return PEFT_SCRIPT.format(**values, model=model, lora=config, prepare=prepare)
    trainer = TRAINER.format(
        **values,
        with_model="peft_config=lora",
        checkpointing=f"        gradient_checkpointing={setup.checkpointing != 'none'},\n",
    )
    return TRL_SCRIPT.format(**values, model=model, lora=config, trainer=trainer)


def _literal(names: str | Sequence[str]) -> str:
    if isinstance(names, str):
        return f'"{names}"'
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _quantization(precision: str) -> str:
    if precision in ("nf4", "nf4-dq"):
        return (
            'BitsAndBytesConfig(\n        load_in_4bit=True,\n        bnb_4bit_quant_type="nf4",\n'
            f"        bnb_4bit_use_double_quant={precision == 'nf4-dq'},\n"
            "        bnb_4bit_compute_dtype=torch.bfloat16,\n    )"
        )
    return "BitsAndBytesConfig(load_in_8bit=True)" if precision == "int8" else "None"
