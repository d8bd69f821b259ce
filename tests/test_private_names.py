"""Names of libraries that begin with an underscore and are used here: each is listed, with the version of its library.

A name that is missing in a new version breaks what uses it, so the list is looked through at each update."""

import ast

from rankviz.paths import IMPORT_ROOT

OURS = {"_with_steps", "_name", "_current"}
PUBLIC = {"_asdict", "_replace", "_exit"}
"""Documented in Python."""
LISTED = {
    "jobs/ray.py": "_do_request",  # ray 2.60, tested in tests/jobs/test_ray.py
    "shared/gate.py": "_query_params _queue",  # starlette 1.10, gradio 6.31
    "ui/blocks.py": "_id _put _signals _statuses",  # gradio 6.31; Python's asyncio.Queue._put is meant to be overridden
    "ui/wiring.py": "_data _id",  # gradio 6.31
    # transformers 5.17, peft 0.21, torch 2.13
    "worker/finetune/session.py": "_forward_hooks _forward_pre_hooks",
    "worker/introspect/activations.py": "_cdata _grouped_mm _python_dispatch _pytree",
    "worker/introspect/layers.py": "_MODEL_TO_CONVERSION_PATTERN _MOE_TARGET_MODULE_MAPPING "
    "_check_lora_target_modules_mamba _keep_in_fp32_modules_strict _model_mapping _non_persistent_buffers_set",
    "worker/simulate/card.py": "_C _cdata _cuda_getCurrentRawStream _cuda_getDevice _subclasses",
    "worker/simulate/step.py": "_C _buffers _current_autograd_node _parameters _process_model_after_weight_loading "
    "_process_model_before_weight_loading _subclasses",
    "worker/simulate/tracker.py": "_apply _cdata _local_scalar_dense _meta_grouped_mm_common _meta_registrations "
    "_python_dispatch _pytree _safe_softmax _scaled_dot_product_attention_math _softmax_backward_data _subclasses "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_efficient_attention_backward "
    "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_backward",
}


def private_names(source: str) -> set[str]:
    """Return the names with one leading underscore in imports, and in attributes of anything but self and cls."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        ):
            names.add(node.attr)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {part for each in node.names for part in each.name.split(".")}
            names |= set((getattr(node, "module", None) or "").split("."))
    return {name for name in names if name.startswith("_") and not name.startswith("__")} - OURS - PUBLIC


def test_private_names_of_libraries_are_listed():
    root = IMPORT_ROOT / "rankviz"
    used = {path.relative_to(root).as_posix(): private_names(path.read_text()) for path in root.rglob("*.py")}

    assert {file: set(names.split()) for file, names in LISTED.items()} == {
        f: names for f, names in used.items() if names
    }
