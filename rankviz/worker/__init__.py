"""The worker: its own process, the only home of torch, transformers, peft, trl and unsloth. Nobody imports it."""
