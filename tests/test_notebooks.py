"""The notebooks in `examples/` are kept without outputs; `.ci/run_notebooks.py` executes them."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# GitHub needs the language, and Jupyter any kernel of it.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="there is no notebook")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=nbformat.NO_CONVERT)


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def execute(folder):
    script = [sys.executable, str(ROOT / ".ci" / "run_notebooks.py"), str(folder)]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def test_notebooks_are_valid_and_hold_nothing_of_a_run_or_a_machine(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert set(cell.metadata) <= {"tags"}


def test_notebooks_begin_with_what_a_reader_sets_and_name_no_place_of_a_machine(notebook):
    parameters, *others = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert parameters.metadata.tags == ["parameters"]
    assert 'os.environ.get("ARTMASK_EXAMPLES")' in parameters.source
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in others)
    assert not [line for source in code_of(notebook) for line in re.findall(r"""["'](?:/|~|[A-Z]:\\).*""", source)]


def test_names_that_notebooks_import_from_artmask_are_there(notebook):
    imports = [
        node
        for source in code_of(notebook)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("artifact_mask")
    ]
    assert imports
    for node in imports:
        module = importlib.import_module(node.module)
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_links_of_notebooks_lead_to_files(notebook):
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    links = [link for text in texts for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_readme_of_the_examples_names_each():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in FOLDER.iterdir() if f"]({path.name})" not in readme] == ["README.md"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import os; assert os.listdir() == []", ""),
        ("import warnings; warnings.warn('mind the gap')", "mind the gap"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_notebook_that_fails_or_warns_is_told(tmp_path, source, told):
    written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=METADATA)
    nbformat.write(written, tmp_path / "one.ipynb")
    executed = execute(tmp_path)
    assert executed.returncode == bool(told), executed.stderr
    assert told in executed.stderr
    assert nbformat.read(tmp_path / "one.ipynb", as_version=4) == written
    assert os.listdir(tmp_path) == ["one.ipynb"]


def test_a_folder_without_notebooks_is_no_success(tmp_path):
    executed = execute(tmp_path)
    assert executed.returncode == 1
    assert "nothing was checked" in executed.stderr
