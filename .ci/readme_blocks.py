"""Run the `sh` blocks of a Markdown file, in an empty folder, as a reader would; stop at the first that fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

RUN_ELSEWHERE = {"make demo", "make test", "pip install .", "artmask demo"}
"""What CI has run by itself, or what would install a second time."""


def main() -> None:
    """Run the blocks of the file named first in the folder named second."""
    markdown, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    blocks = re.findall(r"^```sh\n(.*?)^```", markdown.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    if not blocks:
        sys.exit(f"{markdown} has no sh block: nothing was checked")
    for block in blocks:
        lines = [line for line in block.splitlines() if line.split("#")[0].strip() not in RUN_ELSEWHERE]
        script = "\n".join(lines).strip()
        if not script:
            continue
        print(f"--- {markdown.name}\n{script}", flush=True)
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env={**os.environ, "PATH": path}, check=True
        )


if __name__ == "__main__":
    main()
