"""Run the `sh` and `python` blocks of the README and of the pages in `docs/`, as a reader would.

Each page runs in a folder of its own, its blocks in their order; it stops at the first that fails. Python's names live
to the end of the page. A page that begins with `<!-- continues tutorial.md -->` starts with a copy of the folder that
the tutorial has left. A block that cannot run here says why, in its first line: ```` ```sh no-run="needs SLURM" ````.

    python .ci/docs_blocks.py --list           what is run, and what is not
    python .ci/docs_blocks.py WORK [PAGE...]   run all pages, or these and those that they continue
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LANGUAGES = ("sh", "python")
RUN_ELSEWHERE = re.compile(r"make (demo|test|check|docs)|artmask demo|pip install .*|git clone .*|cd artmask")
"""What CI runs by itself, or what would install a second time."""

_FENCE = re.compile(r'^```(\w+)(?: no-run="([^"]*)")?[^\n]*\n(.*?)^```', re.MULTILINE | re.DOTALL)
_CONTINUES = re.compile(r"<!-- continues ([\w-]+\.md) -->")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes
    ----------
    language
        One of `LANGUAGES`.
    script
        What is run; empty if nothing is left without what runs elsewhere.
    reason
        Why it is not run; empty if it is.
    """

    language: str
    script: str
    reason: str


@dataclass(frozen=True)
class Page:
    """A page; `continues` is the name of the page that it goes on from, or empty."""

    path: Path
    blocks: tuple[Block, ...]
    continues: str

    @property
    def to_run(self) -> list[Block]:
        """Blocks that are run here."""
        return [block for block in self.blocks if block.script and not block.reason]


def find_pages() -> dict[str, Page]:
    """Find all pages by their names, the README first, each after the one that it continues."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = {path.name: read_page(path) for path in paths}
    ordered: dict[str, Page] = {}

    def add(name: str) -> None:
        if found[name].continues and found[name].continues not in ordered:
            add(found[name].continues)
        ordered.setdefault(name, found[name])

    for name in found:
        add(name)
    return ordered


def read_page(path: Path) -> Page:
    """Read the blocks of a page."""
    text = path.read_text(encoding="utf-8")
    blocks = (
        Block(language, script if reason else _strip(script, language), reason)
        for language, reason, script in _FENCE.findall(text)
        if language in LANGUAGES
    )
    continued = _CONTINUES.search(text)
    return Page(path, tuple(blocks), continued[1] if continued else "")


def run_page(page: Page, folder: Path, start: Path | None) -> None:
    """Run the blocks of a page in a new folder."""
    if start is None:
        folder.mkdir(parents=True)
    else:
        shutil.copytree(start, folder)
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    names: dict[str, object] = {"__name__": "__docs__"}
    for block in page.to_run:
        print(f"--- {page.path.name}\n{block.script}", flush=True)
        if block.language == "sh":
            command = ["bash", "-euo", "pipefail", "-c", block.script]
            subprocess.run(command, cwd=folder, env={**os.environ, "PATH": search}, check=True)
        else:
            os.chdir(folder)
            exec(compile(block.script, page.path.name, "exec"), names)


def main() -> None:
    """List the blocks, or run them."""
    pages = find_pages()
    if sys.argv[1:] == ["--list"]:
        print("\n".join(_list_blocks(pages)))
        return
    os.environ.setdefault("MPLBACKEND", "agg")
    work, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:] or list(pages)
    needed = {*wanted, *_continued(pages, wanted)}
    seconds = {}
    for name, page in pages.items():
        if name in needed and page.to_run:
            begin = time.perf_counter()
            run_page(page, work / name, work / page.continues if page.continues else None)
            seconds[name] = time.perf_counter() - begin
    print("\n".join(_list_blocks(pages)))
    print("\n".join(f"{took:6.1f} s  {name}" for name, took in seconds.items()))
    print(f"{sum(seconds.values()):6.1f} s  in all")


def _continued(pages: dict[str, Page], names: list[str]) -> Iterator[str]:
    for name in names:
        while name := pages[name].continues:
            yield name


def _strip(script: str, language: str) -> str:
    """Leave out what runs elsewhere."""
    if language != "sh":
        return script
    lines = [line for line in script.splitlines() if not RUN_ELSEWHERE.fullmatch(line.split("#")[0].strip())]
    return "\n".join(lines).strip()


def _list_blocks(pages: dict[str, Page]) -> Iterator[str]:
    skipped = [(name, block) for name, page in pages.items() for block in page.blocks if block.reason]
    for name, page in pages.items():
        if page.to_run:
            yield f"{name}: {len(page.to_run)} blocks are run"
    for name, block in skipped:
        yield f"{name}: not run ({block.reason}): {block.script.splitlines()[0]}"
    yield f"{sum(len(page.to_run) for page in pages.values())} blocks are run, {len(skipped)} are not"


if __name__ == "__main__":
    main()
