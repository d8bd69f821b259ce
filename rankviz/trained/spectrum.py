"""The spectrum of an adapter on disk."""

from rankviz.core.spectrum.spectrum import LayerSpectrum, Spectrum
from rankviz.trained.read import Adapter
from rankviz.trained.svd import singular_values


def spectrum(adapter: Adapter) -> Spectrum:
    """The singular values of every update, scale · B·A, as a Spectrum."""
    values = singular_values(adapter.pairs)
    return Spectrum(
        name=adapter.name,
        r=adapter.r,
        layers=tuple(
            LayerSpectrum(
                name=name,
                module=module.name,
                r=module.r,
                scale=module.scale,
                singular_values=tuple((abs(module.scale) * values[name]).tolist()),
            )
            for module in adapter.modules
            for name in module.pairs
        ),
        base_model=adapter.config.base_model,
        lora_alpha=adapter.config.lora_alpha,
        use_rslora=adapter.config.use_rslora,
        dtype=adapter.dtype,
        file_bytes=adapter.file.file_bytes,
        notes=adapter.notes,
        training_steps=adapter.steps,
    )
