"""What the page takes from inside of libraries, with the version on which it was seen, to be looked through at each
update. The worker, where torch and the trainers are, takes more."""

import ast

from rankviz.paths import IMPORT_ROOT

INSIDE = ("gradio.", "gradio_client.", "uvicorn.")  # below them no name is meant for others
ALLOWED = {"_asdict", "_replace", "_exit", "_with_steps", "_name", "_current"}  # documented in Python, and our own
LISTED = {
    "jobs/ray.py": "_do_request",  # ray 2.60, tested in tests/jobs/test_ray.py
    "shared/gate.py": "_query_params _queue",  # starlette 1.10, gradio 6.31
    # gradio 6.31; Python's asyncio.Queue._put is meant to be overridden
    "ui/blocks.py": "_id _put _signals _statuses gradio.blocks.BlocksConfig gradio.processing_utils gradio.routes",
    "ui/serve.py": "uvicorn.protocols.http.auto uvicorn.protocols.http.h11_impl.H11Protocol",  # uvicorn 0.54
    "ui/wiring.py": "_data _id",  # gradio 6.31
}


def taken_from_inside(source: str) -> set[str]:
    """Return private attributes of anything but self and cls, and imported names that are private or below INSIDE."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") not in ("self", "cls"):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = f"{node.module}." if f"{node.module}.".startswith(INSIDE) else ""
            names |= {within + each.name for each in node.names}
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    return (private | {name for name in names if name.startswith(INSIDE)}) - ALLOWED


def test_what_is_taken_from_inside_of_libraries_is_listed():
    root = IMPORT_ROOT / "rankviz"
    used = {path.relative_to(root).as_posix(): taken_from_inside(path.read_text()) for path in root.rglob("*.py")}
    used = {file: " ".join(sorted(names)) for file, names in used.items() if names and not file.startswith("worker/")}

    assert LISTED == used
