"""The worker process: the only place that imports torch, transformers, peft, trl and unsloth."""
