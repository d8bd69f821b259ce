"""Spectrum and resize of adapters with r = 64, beside dense SVD: part of benchmarks/main.py."""

import json
import tempfile
import time
from pathlib import Path

R = 64
LOWER_R = 8
SMALL = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}
"""SmolLM2-135M: 30 blocks."""
LARGE = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}
"""Llama-3.1-8B: 32 blocks."""


def bench_adapters() -> None:
    """One call each, from files on disk whose pages are in memory; dense SVD of one block, scaled to all."""
    with tempfile.TemporaryDirectory() as folder:
        _bench("135M shape", SMALL, 30, Path(folder) / "small", dense=True)
        _bench("8B shape", LARGE, 32, Path(folder) / "large", dense=False)


def _bench(name: str, shapes: dict, blocks: int, folder: Path, *, dense: bool) -> None:
    from rankviz.trained.plan import plan
    from rankviz.trained.read import read_adapter, resize, resized
    from rankviz.trained.read import spectrum as spectrum_of

    _write(shapes, blocks, folder)
    adapter, reading = _timed(lambda: read_adapter([folder]))
    spectrum, looking = _timed(lambda: spectrum_of(adapter))
    planned, planning = _timed(lambda: plan(adapter.outline, spectrum, r=LOWER_R))
    _, resizing = _timed(lambda: resized(adapter, planned))
    _, writing = _timed(lambda: resize(adapter, planned, folder / "new"))
    print(
        f"spectrum, r = {R}, {name}, {len(spectrum.layers)} modules: {looking:.3f} s, {reading * 1e3:.0f} ms to read; "
        f"resize to {LOWER_R}: {resizing:.3f} s, {resizing / looking:.2f} times that (with the file {writing:.3f} s, "
        f"its plan {planning * 1e3:.0f} ms)"
    )
    if dense:
        for what, vectors in (("singular values alone", False), ("with vectors, as a resize needs them", True)):
            block = _dense(adapter, shapes, vectors=vectors)
            ours = resizing if vectors else looking
            print(
                f"dense SVD of one block ({what}): {block:.2f} s, so {blocks * block:.1f} s for {blocks} blocks: "
                f"{blocks * block / ours:.0f} times {'resize' if vectors else 'spectrum'}"
            )


def _write(shapes: dict, blocks: int, folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    draw = np.random.default_rng(0)
    tensors = {}
    for block in range(blocks):
        for module, (out_features, in_features) in shapes.items():
            name = f"base_model.model.model.layers.{block}.{module}"
            tensors[f"{name}.lora_A.weight"] = draw.standard_normal((R, in_features), dtype=np.float32)
            tensors[f"{name}.lora_B.weight"] = draw.standard_normal((out_features, R), dtype=np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": R, "lora_alpha": R, "target_modules": list(shapes)}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _dense(adapter, shapes: dict, *, vectors: bool) -> float:
    """Seconds for one block in fp32: BLAS with its own threads or with one, whichever is faster here."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    pairs = [adapter.pair(f"model.layers.0.{module}") for module in shapes]

    def block() -> None:
        for a, b in pairs:
            np.linalg.svd(b @ a, full_matrices=False, compute_uv=vectors)

    seconds = []
    for threads in (None, 1):
        with threadpool_limits(threads):
            seconds.append(_timed(block)[1])
    return min(seconds)


def _timed(call):
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start
