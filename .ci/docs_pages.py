"""What MkDocs builds beside the pages in `docs/`: reference pages made from the code, and texts of the project.

MkDocs calls the functions by their names (`hooks:` in `mkdocs.yml`). A page that is made here exists nowhere else, so
that it cannot disagree with the code.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import artifact_mask
from artifact_mask import config as configurations
from artmask.app import app

ROOT = Path(__file__).parents[1]
MODULE = "artifact_mask"
VIEWS = ("accessors.PlateView", "accessors.ArrayView")
"""What `open_plate` returns has as `.artmask`."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    pages = {
        "commands.md": describe_commands(),
        "configuration.md": describe_configurations(),
        "api.md": describe_api(),
        "models.md": _take("artifact_mask/models/README.md", {"../../docs/": ""}),
        "contributing.md": _take("CONTRIBUTING.md", {}),
        "changelog.md": _take("CHANGELOG.md", {"](docs/": "]("}),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Show the reason why CI does not run a block above it."""
    return re.sub(r'^(```\w+) no-run="(.*?)"$', r'\1 title="not run by the tests: \2"', markdown, flags=re.MULTILINE)


def on_page_content(html: str, **_: object) -> str:
    """Leave the roles of reStructuredText out, which docstrings have before names."""
    return re.sub(r":(?:func|meth|data|mod|class|attr):(?=<code>)", "", html)


def describe_commands() -> str:
    """Commands and their options, as Typer describes them."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "artmask.app",
        "utils",
        "docs",
        "--name",
        "artmask",
        "--title",
        "Commands",
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    # A heading with code in it would be shown as such in the table of contents.
    return re.sub(r"^(#+) `(.*)`$", r"\1 \2", unescape(printed).replace(" .\n", ".\n"), flags=re.MULTILINE)


def describe_configurations() -> str:
    """Every key of every configuration, with its type, default and meaning."""
    return "\n".join(_configuration_lines())


def describe_api() -> str:
    """Functions and results that `artifact_mask` offers, for mkdocstrings to fill in from the docstrings."""
    homes = {name: f"{MODULE}.{home}.{name}" for name, home in artifact_mask._HOMES.items()}
    kinds = {name: getattr(artifact_mask, name) for name in homes}
    models = [name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)]
    classes = [name for name, kind in kinds.items() if isinstance(kind, type) and name not in models]
    functions = [name for name in homes if name not in models and name not in classes]
    parts = [
        "# Python",
        "",
        "Everything here is imported from `artifact_mask` itself, such as `from artifact_mask import RunConfig, run`.",
        "Each command is a function that takes one configuration, with [the keys](configuration.md) of the YAML files:",
        ", ".join(f"[`{name}`](configuration.md#{name.lower()})" for name in models) + ".",
        "",
        "Work is done in processes that Dask starts. A script that calls these functions needs the guard",
        '`if __name__ == "__main__":`, as [the examples](examples.md) have it.',
        "",
        "## Functions",
        "",
        *(f"::: {homes[name]}\n" for name in functions),
        "## Results and errors",
        "",
        *(f"::: {homes[name]}\n" for name in classes),
        "## What `open_plate` returns can do",
        "",
        "`.artmask` of a dataset is a `PlateView`, that of one of its arrays an `ArrayView`.",
        "",
        *(f"::: {MODULE}.views.{name}\n" for name in VIEWS),
    ]
    return "\n".join(parts)


def _configuration_lines() -> Iterator[str]:
    yield "# Configuration\n"
    yield "One model a command: the same keys on the command line (`--max-epochs` is `max_epochs`), in the YAML file of"
    yield "`--config`, and in Python. What is given by hand overrules the file. A misspelt key is an error that lists"
    yield "those that exist.\n"
    commands = {re.sub("[ -]", "", name): name for name in _command_names()}
    for name in sorted(name for name in configurations.__all__ if name.endswith("Config")):
        model: type[BaseModel] = getattr(configurations, name)
        if model.__subclasses__():
            continue
        command = commands.get(name.removesuffix("Config").lower())
        yield f"## {name}\n"
        yield f"{(model.__doc__ or '').strip()}{f' For `artmask {command}`.' if command else ''}\n"
        yield "| key | default | |"
        yield "|---|---|---|"
        for key, field in model.model_fields.items():
            yield f"| `{key}` | {_default(field)} | {_cell(field.description or '')} |"
        yield ""


def _command_names() -> Iterator[str]:
    """Names of the commands, with that of their group before those of a group."""
    for name, command in typer.main.get_command(app).commands.items():
        parts = getattr(command, "commands", {})
        yield from [f"{name} {part}" for part in parts] or [name]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, BaseModel):
        return f"[{type(value).__name__}](#{type(value).__name__.lower()})"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _take(path: str, links: dict[str, str]) -> str:
    """Text of the project that belongs into the site too, with its links turned to the pages there."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for old, new in links.items():
        text = text.replace(old, new)
    return text
