"""Notebooks of the export: valid, in the order in which a cell uses names, with what a script cannot say above it."""

import ast

import nbformat
import pytest

from rankviz.exports.script import colab, notebook, requirements, script
from tests.support.models.recipes import SETTINGS, made


@pytest.mark.parametrize("framework", ["unsloth", "trl", "peft"])
def test_the_notebook_is_valid_and_its_code_is_the_scripts(framework):
    recipe = made(framework=framework, notes=("Something is otherwise.",))

    book = nbformat.reads(notebook(recipe), as_version=4)
    nbformat.validate(book)
    first, *rest = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert f"%pip install --quiet {' '.join(requirements(framework))}" == first
    assert script(recipe).endswith("\n" + "\n\n".join(rest) + "\n")
    assert "Something is otherwise." in book.cells[0].source
    for code in rest:
        compile(code, "cell", "exec")


@pytest.mark.parametrize("written", [notebook, colab])
def test_names_are_defined_before_a_cell_uses_them(written):
    """From top to bottom: what a cell loads, it or one before has bound, or Python itself."""
    for framework in ("unsloth", "trl", "peft"):
        for changes in (SETTINGS["plain"], SETTINGS["nf4"], SETTINGS["all-linear"]):
            bound = set(dir(__builtins__)) | set(__builtins__)
            book = nbformat.reads(written(made(**{**changes, "framework": framework})), as_version=4)
            for cell in [cell for cell in book.cells if cell.cell_type == "code"][1:]:
                tree = ast.parse(cell.source)
                names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
                imported = [
                    a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
                ]
                imported += [a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
                bound |= {*imported, *(node.id for node in names if isinstance(node.ctx, ast.Store))}
                bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
                bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
                assert {node.id for node in names} <= bound
