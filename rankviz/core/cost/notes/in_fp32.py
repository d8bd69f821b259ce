"""Says what it means that Unsloth computes a model in fp32, in the same words for an estimate and for an export."""


def in_fp32(where: str) -> str:
    """where: what keeps it from bf16, as "In fp16" or "On a card without bf16, such as a T4,"."""
    return (
        f"{where} this model trains slower and takes more memory: its numbers overflow in fp16, so Unsloth computes it "
        "in fp32."
    )
