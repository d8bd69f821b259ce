"""The text model inside a multimodal one: what a run on text trains where a library loads the whole."""

from dataclasses import replace

from rankviz.core.model.spec import ModelSpec

LOADED_WHOLE = ("gemma3_text", "gemma4_text", "ministral3")
"""model_types of text towers whose own class in transformers 5.17 finds no weights in the checkpoint of the whole."""
NOT_ON_CPU = ("ministral3",)
"""Those of them that Unsloth's CPU backend does not load: transformers 5.17 has no AutoModelForCausalLM for the
whole."""


def second_towers(model: ModelSpec) -> tuple[str, ...]:
    """The shortest paths that hold a vision or audio tower or a projector, and nothing of the text model."""
    text = {prefix for layer in model.layers if layer.part != "vision" for prefix in _prefixes(layer.path)}
    vision = (layer.path for layer in model.layers if layer.part == "vision")
    return tuple(dict.fromkeys(next(p for p in _prefixes(path) if p not in text) for path in vision))


def text_part(model: ModelSpec) -> ModelSpec:
    """The model without its second towers, as far as LoRA is concerned; sizes stay those of the whole."""
    towers = second_towers(model)

    def kept(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(path for path in paths if not any(path == t or path.startswith(f"{t}.") for t in towers))

    return replace(
        model,
        tower="text tower",
        layers=tuple(layer for layer in model.layers if layer.part != "vision"),
        other_modules=kept(model.other_modules),
        clippable_linears=kept(model.clippable_linears),
    )


def _prefixes(path: str) -> tuple[str, ...]:
    """ "a.b.c" as a, a.b and a.b.c."""
    parts = path.split(".")
    return tuple(".".join(parts[:end]) for end in range(1, len(parts) + 1))
