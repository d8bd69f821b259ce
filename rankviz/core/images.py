"""Images in examples: the tokens that one takes by model family, and the patches that the vision tower computes of it.

The rules are those of transformers 5.17's image processors; their values are rows of assets/image_processors.json.
tests/core/test_images.py compares both with these processors, and the shrinking with Unsloth's collator.
"""

import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from rankviz.core.bounds import shown
from rankviz.core.lora.plan import Adapted
from rankviz.core.model.spec import WHOLE, ModelSpec
from rankviz.errors import InvalidSettingError

ASSUMED_SIZE = "1024x768"
MAX_SIDE = 32_768
MAX_IMAGES = 1024
"""Most images in one example."""
_SIZE = re.compile(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*")
_ATTENTION = re.compile(r"(^|[._])(attn|attention)\.")
_OUTPUT = re.compile(r"\.(proj|projection_layer)$")
"""Pattern of the output projections of attention that are not named o_proj."""


class Seen(NamedTuple):
    """One image as a model gets it."""

    width: int
    """Width in pixels that reaches the image processor: Unsloth's collator shrinks wide images first."""
    height: int
    tokens: int
    """Tokens of the image in the text model's sequence, with the marks between its rows and tiles."""
    marks: int
    """Further tokens around it that the processor adds: its beginning and end, and blank lines."""
    tiles: int
    """Pictures that the tower computes of it: tiles and an overview in some families, else 1."""
    patches: int
    """Patches of each of these pictures, with padding; 0 where the tower is not made of attention blocks."""


def sides_of(size: object) -> tuple[int, int]:
    """Return (width, height) in pixels of a text such as "1024x768"; raise InvalidSettingError for another text."""
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    width, height = map(int, match.groups()) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InvalidSettingError(
            f"The image size must be width x height in pixels, such as {ASSUMED_SIZE}, each from 1 to {MAX_SIDE:,} "
            f"(got {shown(size)})."
        )
    return width, height


def seen_by(model: ModelSpec, size: str | None, *, unsloth: bool) -> Seen:
    """Return an image of this size as the model gets it; raise InvalidSettingError for a model that sees none, or that
    refuses this size. size: Width x height in pixels; without one, ASSUMED_SIZE. unsloth: True shrinks the image as
    UnslothVisionDataCollator does by default (unsloth_zoo/vision_utils.py, _resize_images_inplace): to the width of the
    tower's image_size, or 512. Left out: images inside messages are rounded to whole patches before that."""
    rule, (width, height) = model.image_processor, sides_of(size or ASSUMED_SIZE)
    if rule is None or model.whole is not None:
        kind = "is a text model" if model.whole is None else "is counted without its vision tower"
        text = f"{model.id or 'This model'} {kind}, so it takes no images. "
        if model.is_whole:
            text = f"RankViz does not know how {model.model_type} turns images into tokens. "
        whole = f"Choose {model.id}{WHOLE}, or leave" if model.whole is not None else "Leave"
        raise InvalidSettingError(f"{text}{whole} the images out.")
    limit = rule["unsloth_side"]
    if unsloth and isinstance(limit, list):
        width, height = limit
    elif unsloth and width > limit:
        width, height = limit, max(1, (height * limit + width // 2) // width)
    narrow = max(width, height) > rule.get("most_ratio", math.inf) * min(width, height)
    tokens, tiles, patches = (0, 0, 0) if narrow else _counted(rule, width, height)
    if not tokens:
        raise InvalidSettingError(
            f"{rule['processor']} refuses an image of {width} x {height} pixels: it is too narrow. Choose another size."
        )
    return Seen(width, height, tokens, rule["marks"], tiles, patches)


def _counted(rule: Mapping[str, Any], width: int, height: int) -> tuple[int, int, int]:
    """Return (tokens, tiles with an overview, patches of each tile) by the rule of a family.
    Each case names its processor and has the same order of operations, since rounding decides."""
    side, each, patches = rule.get("side", 0), rule.get("tokens", 0), rule.get("patches", 0)
    most = rule.get("max_tiles", 0)
    grids = [(rows, columns) for columns in range(1, most + 1) for rows in range(1, most // columns + 1)]
    match rule["rule"]:
        case "fixed":
            return each, rule.get("tiles", 1), patches
        case "multiple":  # Qwen2VLImageProcessor: sides rounded to whole tokens, then scaled between two areas
            least, most = rule["min_pixels"], rule["max_pixels"]
            rows, columns = round(height / side), round(width / side)
            if rows * columns * side**2 > most:
                scale = math.sqrt(height * width / most)
                rows, columns = (max(1, math.floor(x / scale / side)) for x in (height, width))
            elif rows * columns * side**2 < least:
                scale = math.sqrt(least / (height * width))
                rows, columns = (math.ceil(x * scale / side) for x in (height, width))
        case "ratio":  # MuseGlimmerImageProcessor: of four grids within the limit, the nearest in ratio
            most, ideal = rule["max_tokens"], (height / side, width / side)
            if ideal[0] * ideal[1] > most:
                ratio = ideal[1] / ideal[0]
                tall = (most / ratio) ** 0.5
                ideal = tall, tall * ratio
            near = set(product(*([math.floor(x), math.ceil(x)] for x in ideal)))
            near = [grid for grid in near if min(grid) >= 1 and grid[0] * grid[1] <= most]
            near = near or [(max(1, round(ideal[0])), max(1, round(ideal[1])))]
            rows, columns = min(near, key=lambda grid: abs(grid[0] / grid[1] - height / width))
        case "budget":  # Gemma4ImageProcessor: the largest grid within the budget; small images are scaled up
            most = rule["max_tokens"]
            scale = math.sqrt(most * side**2 / (height * width))
            rows, columns = (math.floor(scale * x / side) for x in (height, width))
            if not rows:
                rows, columns = 1, min(width // height, most)
            elif not columns:
                rows, columns = min(height // width, most), 1
            return rows * columns, 1, most * rule["patches_per_token"]  # the tower also computes the padding
        case "rows":  # PixtralImageProcessor: scaled down to the longest side; a token ends each row
            ratio = max(height, width) / rule["longest_side"]
            if ratio > 1:
                height, width = math.floor(height / ratio), math.floor(width / ratio)
            rows, columns = (-(-x // side) for x in (height, width))
            return rows * (columns + 1) if columns else 0, 1, rows * columns * rule["patches_per_token"]
        case "canvas":  # Llama4ImageProcessor: the least enlargement, else the least reduction; in fp32, as torch
            scales = {}
            for rows, columns in grids:
                both = side * rows / height, side * columns / width
                scales[rows, columns] = struct.unpack("f", struct.pack("f", min(both)))[0]
            chosen = min((s for s in scales.values() if s >= 1), default=None) or max(scales.values())
            tiles = min(grid[0] * grid[1] for grid, scale in scales.items() if scale == chosen)
            # a mark after each tile, and an overview; three more in both cases
            return (each * (tiles + 1) + tiles + 3, tiles + 1, patches) if tiles > 1 else (each + 3, 1, patches)
        case "nearest":  # GotOcr2ImageProcessor: the grid nearest in ratio; of equals, the one not far too large
            best, off = (1, 1), math.inf
            for rows, columns in sorted(grids, key=math.prod):
                now = abs(width / height - columns / rows)
                if now < off or (now == off and width * height > 0.5 * side**2 * rows * columns):
                    best, off = (rows, columns), now
            tiles = math.prod(best) + (math.prod(best) > 1)
            return each * tiles, tiles, patches
        case "split":  # Idefics3ImageProcessor: the long side scaled to whole tiles; marks for tiles, rows, overview
            long, ratio = rule["longest_side"], width / height
            short = int(long / ratio) if width >= height else int(long * ratio)
            short = max(short + short % 2, 1)
            ratio = long / short if width >= height else short / long
            short = int(long / ratio) if width >= height else int(long * ratio)
            rows, columns = -(-short // side), -(-long // side)
            if height > width:
                rows, columns = columns, rows
            return each + 3 + rows * (columns * (each + 2) + 1), rows * columns + 1, patches
        case "anyres":  # LlavaNextImageProcessor: the canvas that keeps most pixels, less its padding; rows as above
            best, key = (0, 0), (-1, 0)
            for tall, wide in rule["canvases"]:
                scale = min(wide / width, tall / height)
                kept = min(int(width * scale) * int(height * scale), width * height)
                if (kept, kept - wide * tall) > key:
                    best, key = (tall, wide), (kept, kept - wide * tall)
            across = math.isqrt(each)
            rows, columns = (across * (canvas // side) for canvas in best)
            if width / height > columns / rows:
                rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
            else:
                columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
            return each + rows * columns + rows, 1 + best[0] * best[1] // side**2, patches
    return rows * columns, 1, rows * columns * rule["patches_per_token"]


def image_tower(model: ModelSpec, adapted: Iterable[Adapted]) -> tuple[ModelSpec, tuple[Adapted, ...], int] | None:
    """Return the vision tower's blocks as a model of their own without a vocabulary, the adapters in them, and the
    number of weights behind the blocks that one token is multiplied with; None for a tower without such blocks. Audio
    towers are left out. Heads are counted as 64 wide, which decides nothing but the attention kernel."""
    vision = [each for each in model.layers if each.part == "vision" and "audio" not in each.path]
    sizes = Counter()
    for layer in vision:
        if layer.blocks and layer.kind == "linear":
            sizes[layer.path.split("{}")[0]] += layer.parameters
    if not sizes:
        return None
    start = sizes.most_common(1)[0][0]
    inside = {}
    for layer in vision:
        if layer.path.startswith(start):
            path = _OUTPUT.sub(".o_proj", layer.path.removesuffix(".linear"))
            part = "attention" if _ATTENTION.search(path) else "mlp"
            inside[layer.path] = replace(layer, path=path, part=part)
    layers = tuple(inside.values())
    width = next((each.in_features for each in layers if each.part == "attention"), 0)
    if not width:
        return None
    depth, heads = 1 + max(max(each.blocks) for each in layers), max(1, width // 64)
    every = model.image_processor.get("full_attention_every", 0)
    kinds = ("bidirectional_window_attention", "bidirectional_attention")
    norms = (each for each in model.plain_modules if each.path.startswith(start))
    tower = replace(
        model,
        tower="text",
        model_type="",
        architecture="",
        layers=layers,
        plain_modules=tuple(replace(each, part="other") for each in norms),
        num_hidden_layers=depth,
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=0,
        num_experts=0,
        num_experts_per_tok=0,
        layer_types=tuple(kinds[not every or not (n + 1) % every or n + 1 == depth] for n in range(depth)),
        sliding_window=model.image_processor["window_patches"] if every else None,
        activation_bytes_per_token=(),
        unsloth_checkpoint=None,
    )
    behind = sum(each.parameters for each in vision if not each.path.startswith(start) and each.kind == "linear")
    carried = (replace(each, layer=inside[each.layer.path]) for each in adapted if each.layer.path in inside)
    return tower, tuple(carried), behind
