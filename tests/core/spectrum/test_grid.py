"""Modules by blocks, under names as short as tell them apart."""

from rankviz.core.spectrum import grid
from tests.core.spectrum.test_spectrum import adapter, layer


def test_blocks_and_modules_in_their_usual_order():
    names = ["mlp.down_proj", "self_attn.k_proj", "self_attn.q_proj"]
    laid_out = grid(adapter(*(layer(f"model.layers.{i}.{name}", 1.0) for i in (10, 9) for name in names)))

    assert ["q_proj", "k_proj", "down_proj"] == laid_out.rows
    assert ["9", "10"] == laid_out.blocks
    assert ["model.layers.9.self_attn.q_proj", "model.layers.10.self_attn.q_proj"] == [
        one.name for one in laid_out.row("q_proj")
    ]


def test_names_are_longer_where_they_would_be_the_same():
    names = ["text.layers.0.attn.out", "vision.blocks.0.attn.out", "text.layers.0.mlp.out"]
    laid_out = grid(adapter(*(layer(name, 1.0) for name in names)))

    assert {"layers.attn.out", "blocks.attn.out", "mlp.out"} == set(laid_out.rows)


def test_a_module_outside_blocks_stands_in_a_column_of_its_own():
    laid_out = grid(adapter(layer("model.layers.0.q_proj", 1.0), layer("lm_head", 2.0)))

    assert ["0", "–"] == laid_out.blocks
    assert {("q_proj", "0"), ("lm_head", "–")} == laid_out.cells.keys()


def test_experts_share_a_cell():
    laid_out = grid(adapter(*(layer(f"model.layers.0.mlp.experts.{i}.up_proj", 1.0) for i in range(3))))
    fused = grid(adapter(*(layer(f"model.layers.0.mlp.experts.base_layer.{i}", 1.0) for i in range(3))))

    assert (["up_proj"], 3) == (laid_out.rows, len(laid_out.cells["up_proj", "0"]))
    assert (["experts.base_layer.*"], 3) == (fused.rows, len(fused.cells["experts.base_layer.*", "0"]))
