"""Notebooks of the export: valid, with the code of the script and its notes above it."""

import nbformat
import pytest

from rankviz.exports.script import notebook, requirements, script
from tests.support.models.recipes import made


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
