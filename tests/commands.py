"""Run the command line, in a process of its own or in this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from artmask import app


def artmask(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user does."""
    command = [sys.executable, "-m", "artmask", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of a command that is run in this process."""
    monkeypatch.setattr(sys, "argv", ["artmask", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code
