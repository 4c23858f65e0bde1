"""A real browser, and pages of it on which nothing goes wrong unnoticed."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="there is no chromium: apt-get install chromium"),
]
"""Marks of a module whose tests drive it."""


@contextmanager
def start_chromium(*arguments: str) -> Iterator[Any]:
    """Start the browser for as long as the context lasts."""
    with playwright.sync_playwright() as driver:
        # Without its sandbox, which root has not.
        browser = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()


@contextmanager
def watched_page(
    browser: Any,
    *,
    is_problem: Callable[[Any], bool] = lambda message: message.type == "error",
    is_allowed: Callable[[str], bool] = lambda url: not url.startswith("http"),
    timeout_ms: float = 20_000,
    **context_options: Any,
) -> Iterator[Any]:
    """Open an empty page; at its end nothing may have been thrown, complained about, or asked for elsewhere.

    Parameters
    ----------
    is_problem
        Tells of a message on the console whether it is one.
    is_allowed
        Tells of an address whether the page may ask for it.
    """
    context = browser.new_context(**context_options)
    context.set_default_timeout(timeout_ms)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if is_problem(message) else None)
    page.on("request", lambda request: None if is_allowed(request.url) else problems.append(request.url))
    yield page
    context.close()
    assert not problems
