"""Execute the notebooks of a folder, each from its first cell to its last; stop at the first that fails or warns."""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

TIMEOUT_S = 600
"""Of a cell: the longest takes half a minute on two idle cores."""
SAID_WHEN_BUSY = "ignore:Creating scratch directories:UserWarning"
"""A warning of Dask that depends on how busy the machine is, not on the notebook."""


def main() -> None:
    """Execute the notebooks of the folder named first; keep the executed ones in the folder named second, if any."""
    notebooks = sorted(Path(sys.argv[1]).glob("*.ipynb"))
    if not notebooks:
        sys.exit(f"{sys.argv[1]} has no notebook: nothing was checked")
    kept = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with TemporaryDirectory(prefix="artmask-notebooks-") as scratch:
        # Neither a plate nor what a kernel remembers is left behind.
        os.environ |= {"ARTMASK_EXAMPLES": scratch, "IPYTHONDIR": str(Path(scratch) / "ipython")}
        os.environ |= {"PYTHONWARNINGS": SAID_WHEN_BUSY}
        for path in notebooks:
            began = time.monotonic()
            notebook = nbformat.read(path, as_version=4)
            try:
                execute(notebook, Path(scratch) / path.stem)
            except CellExecutionError as error:
                sys.exit(f"{path.name} failed: {error}")
            finally:
                if kept:
                    kept.mkdir(parents=True, exist_ok=True)
                    nbformat.write(notebook, kept / path.name)
            if warnings := said_on_stderr(notebook):
                sys.exit(f"{path.name} ran, and warned: {warnings}")
            print(f"{path.name}: {time.monotonic() - began:.0f} s", flush=True)


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Execute a notebook in a new folder; its cells get their outputs."""
    folder.mkdir()
    # Sockets in files: whoever reaches a port of a kernel can run code.
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}-kernel")
    client = NotebookClient(notebook, km=kernel, timeout=TIMEOUT_S, resources={"metadata": {"path": str(folder)}})
    client.execute(cleanup_kc=True)


def said_on_stderr(notebook: nbformat.NotebookNode) -> str:
    """Return what the cells wrote where warnings go."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output["text"] for output in outputs if output.get("name") == "stderr")


if __name__ == "__main__":
    main()
