"""The named HTTP endpoints, /gradio_api/call/<name>: the API's operations, their schemas from these docstrings."""

from dataclasses import asdict
from typing import Any

import gradio as gr

from rankviz.api import Api
from rankviz.core.advice.use_case import Goal
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import PRESETS, LoraConfig
from rankviz.ui.parts.question import names_in
from rankviz.ui.wiring import spoken


def publish(api: Api) -> None:
    """Register the endpoints. Values come from anyone, and the core checks them."""

    def estimate(
        model: str,
        ranks: list[int] = [16],  # noqa: B006 - Gradio reads defaults from the signature; nobody changes it
        targets: str = "unsloth",
        alpha: str = "r",
        precision: str = "nf4-dq",
        framework: str = "unsloth",
        batch: int = 2,
        accumulation: int = 4,
        max_length: int = 2048,
        steps: int = 1000,
        gpu: str = "l4",
    ) -> dict[str, Any]:
        """Exact adapter numbers, and ranges for memory, time and money.

        Args:
            model: A catalogue id or another name of it, or a Hub id.
            ranks: LoRA ranks, 1 to 1024.
            targets: all-linear, attention, mlp, qv, unsloth, or module names with commas between.
            alpha: r, 2r or a number.
            precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
            framework: unsloth, trl or peft.
            batch: Rows a micro-step.
            accumulation: Micro-steps an optimizer step.
            max_length: Tokens a row, padding included.
            steps: Optimizer steps.
            gpu: A GPU of the table; empty for none.
        """
        return api.estimate(
            _question(model, ranks, targets, alpha, precision, framework, batch, accumulation, max_length, steps, gpu)
        )

    def fit(
        model: str,
        r: int = 16,
        targets: str = "unsloth",
        alpha: str = "r",
        precision: str = "nf4-dq",
        framework: str = "unsloth",
        batch: int = 2,
        accumulation: int = 4,
        max_length: int = 2048,
        steps: int = 1000,
        gpu: str = "l4",
        prices: dict[str, float] | None = None,
    ) -> dict[str, Any]:
        """What fits, what each change costs, the smallest that makes it fit, and which GPUs do, cheapest first.

        Args:
            model: A catalogue id or another name of it, or a Hub id.
            r: LoRA rank, 1 to 1024.
            targets: As for estimate, and so the rest down to gpu.
            alpha: r, 2r or a number.
            precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
            framework: unsloth, trl or peft.
            batch: Rows a micro-step.
            accumulation: Micro-steps an optimizer step.
            max_length: Tokens a row, padding included.
            steps: Optimizer steps.
            gpu: A GPU of the table; empty for none.
            prices: Your own, in USD an hour by GPU, instead of the table's.
        """
        asked = _question(model, [r], targets, alpha, precision, framework, batch, accumulation, max_length, steps, gpu)
        return api.decisions(asked, r, prices)

    def advise(
        model: str,
        use_case: str = "instruction",
        examples: int | None = None,
        example_tokens: int | None = None,
        forgetting: bool = False,
        targets: str = "unsloth",
        precision: str = "nf4-dq",
        framework: str = "unsloth",
        batch: int = 2,
        accumulation: int = 4,
        max_length: int = 2048,
        steps: int = 1000,
        gpu: str = "l4",
    ) -> dict[str, Any]:
        """Which rank, alpha, learning rate and targets to take, why, how sure, and what would change it.

        Args:
            model: A catalogue id or another name of it, or a Hub id.
            use_case: simple, instruction, complex, near-full or pretraining.
            examples: Different training examples.
            example_tokens: Tokens of one, on average.
            forgetting: Whether the base must keep what it could do.
            targets: As for estimate, and so the rest.
            precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
            framework: unsloth, trl or peft.
            batch: Rows a micro-step.
            accumulation: Micro-steps an optimizer step.
            max_length: Tokens a row, padding included.
            steps: Optimizer steps.
            gpu: A GPU of the table; empty for none.
        """
        asked = _question(model, [16], targets, "r", precision, framework, batch, accumulation, max_length, steps, gpu)
        goal = Goal(use_case=use_case, examples=examples, example_tokens=example_tokens, forgetting=forgetting)
        return api.advise(asked, goal)

    def models() -> list[dict[str, Any]]:
        """The catalogue: base models with totals from their real layers."""
        return [asdict(row) for row in api.models()]

    def runs() -> list[dict[str, Any]]:
        """All runs here, newest first: what was asked, what was measured, and the estimate."""
        return [api.run_summary(run.run_id) for sweep in api.sweeps() for run in sweep.runs]

    def run(run_id: str) -> dict[str, Any]:
        """One run: what was asked, what was measured, and the estimate.

        Args:
            run_id: As `runs` names it.
        """
        return api.run_summary(run_id)

    for operation in (estimate, fit, advise, models, runs, run):
        gr.api(spoken(operation), api_name=operation.__name__, concurrency_limit=None)


def _question(
    model: str,
    ranks: list[int],
    targets: str,
    alpha: str,
    precision: str,
    framework: str,
    batch: int,
    accumulation: int,
    max_length: int,
    steps: int,
    gpu: str,
) -> Question:
    return Question(
        model_id=model,
        ranks=tuple(ranks),
        lora=LoraConfig(target_modules=targets if targets in PRESETS else names_in(targets)),
        alpha=str(alpha),
        training=TrainingSetup(
            framework=framework,
            precision=precision,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_length=max_length,
            max_steps=steps,
        ),
        gpu=gpu or None,
    )
