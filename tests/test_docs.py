"""The documentation says what is so: messages, commands, options, files of a store, public names."""

import ast
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer.main
import yaml

import artifact_mask
from artmask.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
GAP = "\0"
"""Stands for a value in a message of the source."""


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Data classes look for their module there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


BLOCKS = _load("docs_blocks")


def _texts_of_source() -> Iterator[str]:
    for path in [*(ROOT / "artifact_mask").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _quoted_messages() -> list[str]:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`+)(.*?)\1 \|", page, flags=re.MULTILINE)
    return [text.strip() for _, text in cells]


def test_every_message_of_the_troubleshooting_page_is_in_the_source():
    source = "\n".join(f"<{text}>" for text in {*_texts_of_source()})
    messages = _quoted_messages()
    assert len(messages) > 60
    unknown = []
    for message in messages:
        # A gap may hold any text, but it ends with its message.
        pattern = "[^<>\n]*".join(re.escape(part) for part in re.split(r"\s*\.\.\.\s*", message))
        if not re.search(pattern, source):
            unknown.append(message)
    assert not unknown


def test_every_page_is_in_the_navigation_and_the_other_way_round():
    def leaves(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            for value in node.values():
                yield from leaves(value)
        else:
            for value in node:
                yield from leaves(value)

    named = {*leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])}
    made = {"commands.md", "configuration.md", "api.md", "models.md", "contributing.md", "changelog.md"}
    assert {page.name for page in PAGES} == named - made


def test_blocks_that_cannot_run_say_why():
    fences = [
        (page.name, line)
        for page in [ROOT / "README.md", *PAGES]
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith(("```sh", "```python")) and line not in ("```sh", "```python")
    ]
    assert all(re.fullmatch(r'```(sh|python) no-run="[^"]+"', line) for _, line in fences), fences


def test_no_command_hides_in_a_block_without_a_language():
    hidden = [
        (page.name, block.splitlines()[0])
        for page in [ROOT / "README.md", *PAGES]
        for language, block in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        if language not in BLOCKS.LANGUAGES and re.search(r"^(artmask|pip|python) \S", block, re.MULTILINE)
    ]
    assert not hidden


def _options() -> dict[str, set[str]]:
    """Options of each command."""
    group = typer.main.get_command(app)
    found = {"": {"--help", "--version"}}
    for name, command in group.commands.items():
        for full, one in {
            name: command,
            **{f"{name} {sub}": c for sub, c in getattr(command, "commands", {}).items()},
        }.items():
            found[full] = {"--help", *(option for p in one.params for option in (*p.opts, *p.secondary_opts))}
    return found


def _commands(text: str) -> Iterator[str]:
    """Commands in code: in blocks, a line each, and in the middle of sentences."""
    for _, block in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^artmask .*$", block.replace("\\\n", " "), re.MULTILINE)
    yield from re.findall(r"`(artmask [^`\n]*)`", text)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_commands_and_options_exist(page):
    known = _options()
    wrong = []
    for command in _commands(page.read_text(encoding="utf-8")):
        words = shlex.split(command, comments=True)[1:]
        name = " ".join(words[:2]) if words and words[0] == "train" else (words or [""])[0]
        if not name or name.isupper() or name.startswith("--"):
            continue
        used = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z].*", word)}
        if name not in known or not used <= known[name]:
            wrong.append(command)
    assert not wrong


@pytest.mark.parametrize("page", ["campaigns.md", "clusters.md"])
def test_yaml_on_a_page_is_a_configuration_of_run(page):
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        artifact_mask.RunConfig.model_validate({"plates": "plate01.zarr", **yaml.safe_load(block)})


def test_every_public_name_is_on_the_page_of_python():
    pages = _load_pages()
    page = pages.describe_api()
    assert all(re.search(rf"\b{name}\b", page) for name in artifact_mask.__all__ if name != "__version__")


def test_every_key_of_a_configuration_is_on_its_page():
    page = _load_pages().describe_configurations()
    assert all(f"| `{key}` |" in page for key in artifact_mask.TrainUNetConfig.model_fields)


def _load_pages() -> ModuleType:
    pytest.importorskip("mkdocs")
    return _load("docs_pages")


@pytest.fixture(scope="module")
def measured_plate(tmp_path_factory, shared_cluster) -> Path:
    """Plate that all stages but `label` have written to."""
    folder = tmp_path_factory.mktemp("documented")
    am = artifact_mask
    (export,) = am.simulate(am.SimulateConfig(dest=folder / "campaign", wells=2, fields=2, size=300, channels=2))
    am.ingest(am.IngestConfig(exports=export, dest=folder / "screen"))
    plate = folder / "screen" / f"{export.name}.zarr"
    am.estimate_illumination(am.IlluminationConfig(plates=plate))
    am.run(am.RunConfig(plates=plate))
    am.measure_cells(am.CellsConfig(plates=plate))
    am.label_stain(am.StainConfig(plates=plate))
    am.correct(am.CorrectConfig(plates=plate, fields=1))
    return plate


def test_file_format_names_every_group_and_array(measured_plate):
    page = (DOCS / "file-format.md").read_text(encoding="utf-8")
    names = set()
    for document in measured_plate.rglob("zarr.json"):
        names |= {*document.parent.relative_to(measured_plate).parts}
    # Of rows, columns, fields and levels the page names the first.
    names = {name for name in names if not re.fullmatch(r"[A-Z]|\d+", name)}
    assert names == {"labels", "artifacts", "stain", "nuclei", "cells", "corrected", "masked"} | {
        "illumination", "flatfield", "tables", "fields", "wells", "plate"
    }  # fmt: skip
    assert all(re.search(rf"\b{name}\b", page) for name in names)


def test_file_format_names_every_key_of_our_metadata(measured_plate):
    page = (DOCS / "file-format.md").read_text(encoding="utf-8")
    named = {*re.findall(r"`(\w+)`", page)}
    keys = set()
    for document in measured_plate.rglob("zarr.json"):
        attributes = json.loads(document.read_bytes()).get("attributes", {})
        keys |= {*attributes} | {*_keys(attributes.get("artmask", {}))}
    assert keys - named == set()


def _keys(node: object) -> Iterator[str]:
    # What the layout and Harmony say has keys of its own.
    for key, value in node.items() if isinstance(node, dict) else ():
        yield key
        if key not in ("layout", "flat_field_profiles"):
            yield from _keys(value)
    for value in node if isinstance(node, list) else ():
        yield from _keys(value)


@pytest.mark.parametrize(
    ("array", "axes", "dtype", "codec"),
    [
        ("B/2/0/0", "tczyx", "uint16", ("lz4", 5)),
        ("B/2/0/labels/artifacts/0", "tzyx", "int32", ("zstd", 3)),
        ("B/2/0/masked/0", "tczyx", "uint16", ("lz4", 5)),
        ("illumination/0/flatfield", "cyx", "float32", ("zstd", 3)),
    ],
)
def test_file_format_describes_arrays_as_they_are(measured_plate, array, axes, dtype, codec):
    described = json.loads((measured_plate / array / "zarr.json").read_bytes())
    assert "".join(described["dimension_names"]) == axes
    assert described["data_type"] == dtype
    shard = described["codecs"][0]
    assert shard["name"] == "sharding_indexed"
    _, blosc, checksum = shard["configuration"]["codecs"]
    assert (blosc["configuration"]["cname"], blosc["configuration"]["clevel"]) == codec
    assert blosc["configuration"]["shuffle"] == "bitshuffle"
    assert checksum["name"] == "crc32c"
    page = (DOCS / "file-format.md").read_text(encoding="utf-8")
    assert re.search(rf"`{' '.join(axes)}` \| {dtype}.*{codec[0]}, level {codec[1]}, bit shuffle", page)


def test_file_format_names_every_file_beside_the_plate(measured_plate):
    beside = measured_plate.with_name(measured_plate.name + ".artmask")
    page = (DOCS / "file-format.md").read_text(encoding="utf-8")
    named = {*re.findall(r"`(\w+)`", page)}
    stages = {path.parent.name for path in beside.glob("*/state.json")}
    others = {path.name for path in beside.iterdir()} - stages
    assert stages == {"ingest", "run", "cells", "stain"}
    assert stages <= named
    assert others <= {"lease", "staging", "logs", "export", "illumination"}
    records = [json.loads(path.read_bytes()) for stage in stages for path in (beside / stage).glob("*/*.json")]
    assert {key for record in records for key in record} <= named
    assert {key for record in records for field in record["fields"].values() for key in field} <= named
    (lease,) = (beside / "lease").iterdir()
    assert {*json.loads(lease.read_bytes())} <= named
    lines = [json.loads(line) for path in (beside / "logs").iterdir() for line in path.read_text().splitlines()]
    assert {key for line in lines for key in line} <= named
    assert {*_keys(json.loads((measured_plate.parent / "campaign.json").read_bytes()))} <= named


def test_page_of_examples_names_each():
    page = (DOCS / "examples.md").read_text(encoding="utf-8")
    examples = [path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")]
    assert all(name in page for name in examples)


def test_pictures_of_the_documentation_are_small():
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png")]
    assert pictures
    assert all(path.stat().st_size <= 150_000 for path in pictures)
