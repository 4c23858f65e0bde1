"""Read the XML files of an export, which come from outside: guarded, and in memory that does not grow with the file."""

from collections.abc import Collection, Generator
from functools import lru_cache
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from artifact_mask.errors import ExportError
from artifact_mask.location import Location

MAX_XML_BYTES = 2 * 1024**3
MAX_ELEMENT_BYTES = 16 * 1024**2
MAX_PROLOG_BYTES = 32 * 1024
MAX_DEPTH = 64

# A few hundred elements at a time: with more of them alive, the garbage collector takes as long as the parser.
_CHUNK_BYTES = 8 * 1024
_LARGEST_CHUNK_BYTES = 1024**2
_SMALL_BLOCK_BYTES = 1024**2

FoundElement = tuple[str, Element]
"""Local name of an element, and the element."""


@lru_cache(4096)
def local_name(tag: str) -> str:
    """Tag without its namespace: each generation of Harmony has one of its own, while the local names stayed.

    Examples
    --------
    >>> local_name("{http://www.perkinelmer.com/PEHH/HarmonyV5}Image")
    'Image'
    """
    return tag.rpartition("}")[2]


def children_of(element: Element) -> dict[str, Element]:
    """Children by local name; of several with the same name the last."""
    return {local_name(child.tag): child for child in element}


def text_of(element: Element | None) -> str:
    """Text without the space around it; empty for an element that is not there."""
    return (element.text or "").strip() if element is not None else ""


def attribute_of(element: Element, name: str) -> str | None:
    """Value of an attribute, whatever its namespace; None where there is none."""
    value = element.get(name)
    if value is None:
        value = next((text for key, text in element.items() if local_name(key) == name), None)
    return value


def read_elements(
    file: Location, wanted: Collection[str], *, max_bytes: int = MAX_XML_BYTES, head_only: bool = False
) -> Generator[FoundElement, None, None]:
    """Read an XML file and yield the elements of some names, wherever they stand.

    Parameters
    ----------
    file
        XML in any encoding that Python knows by one byte a character, or UTF-8 or UTF-16.
    wanted
        Local names. A wanted element within another is part of it, and not yielded by itself.
    max_bytes
        A larger file is not read.
    head_only
        The caller expects to stop soon: a store is asked for small parts of the file.

    Yields
    ------
    tuple[str, Element]
        First the local name of the root and the root, still without its children; then each wanted element in the
        order of the file, complete. It is forgotten here once the next one is asked for.

    Raises
    ------
    ExportError
        If the file cannot be read, is too large, is not well-formed, declares a document type or entities, is nested
        deeper than 64 levels, or has an element of more than 16 MiB that is wanted or has no children.

    Notes
    -----
    A document type can only be declared before the root element, and without one XML knows no entity that expands.
    defusedxml's parser therefore reads up to the root and refuses any declaration; what follows goes to the parser of
    the standard library, several times faster. Both use the same expat, and see the same bytes.
    """
    try:
        yield from _read(file, frozenset(wanted), max_bytes, head_only)
    except ParseError as error:
        raise ExportError(
            f"{file} is not complete XML ({error}). It may have been cut off while copying: copy the export again."
        ) from error
    except DefusedXmlException as error:
        raise ExportError(
            f"{file} contains XML entities or a document type, which no export of Harmony does; it is not read."
        ) from error
    except ExportError:
        raise
    except (LookupError, ValueError) as error:
        raise ExportError(
            f"{file} is not complete XML ({error}). Harmony writes UTF-8: copy the export again."
        ) from error
    except OSError as error:
        raise ExportError(f"{file} cannot be read: {error}. Check that it is there, and its permissions.") from error


def _read(
    file: Location, wanted: frozenset[str], max_bytes: int, head_only: bool
) -> Generator[FoundElement, None, None]:
    size = file.stat().st_size
    if size > max_bytes:
        raise ExportError(_too_large(file, size, max_bytes))
    builder = TreeBuilder()
    # An element of our own around the document: its child is the root, which can be looked at while it grows.
    top = builder.start("", {})
    parser = XMLParser(target=builder)
    prolog = _Prolog()
    with _open(file, head_only) as stream:
        n_read = open_since = 0
        innermost = top
        # The longer an element has been open, the more is read at once: expat starts anew on a tag that is incomplete.
        while chunk := stream.read(min(max(_CHUNK_BYTES, n_read - open_since), _LARGEST_CHUNK_BYTES)):
            n_read += len(chunk)
            if n_read > max_bytes:
                raise ExportError(_too_large(file, n_read, max_bytes))
            harmless = prolog.pass_on(chunk)
            if not harmless:
                if n_read > MAX_PROLOG_BYTES:
                    raise ExportError(f"{file} is not complete XML: no element in its first {n_read} bytes.")
                continue
            parser.feed(harmless)
            if len(top):
                if innermost is top:
                    yield _begun(top[0])
                last = yield from _take_complete(file, top, wanted)
                if last is not innermost:
                    open_since, innermost = n_read, last
            if n_read - open_since > MAX_ELEMENT_BYTES:
                raise ExportError(
                    f"{file} has an element <{local_name(innermost.tag)[:80]}> of more than {MAX_ELEMENT_BYTES} bytes, "
                    "which no export of Harmony does; it is not read."
                )
        parser.feed(prolog.finish())
        parser.close()
    if innermost is top:
        yield _begun(top[0])
    for child in top[0]:
        yield from _found_in(child, wanted)


def _open(file: Location, head_only: bool) -> IO[bytes]:
    if isinstance(file, Path):
        return file.open("rb")
    return file.open("rb", block_size=_SMALL_BLOCK_BYTES) if head_only else file.open("rb")


class _Prolog:
    """Holds a document back until nothing harmful can stand before its root element any more."""

    def __init__(self) -> None:
        self._passed = False
        self._held = b""
        self._parser = DefusedXMLParser(target=self, forbid_dtd=True)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._passed = True

    def pass_on(self, chunk: bytes) -> bytes:
        """Take the next bytes, and return those that may be parsed."""
        if self._passed:
            return chunk
        self._held += chunk
        start = 0
        # Piece by piece: expat reads on to the end of a piece after a declaration has been refused.
        while start < len(chunk) and not self._passed:
            end = chunk.find(b">", start) + 1 or len(chunk)
            self._parser.feed(chunk[start:end])
            start = end
        return self._release() if self._passed else b""

    def finish(self) -> bytes:
        """Return what is still held back at the end of the document."""
        if not self._passed:
            self._parser.close()
        return self._release()

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held


def _begun(element: Element) -> FoundElement:
    return local_name(element.tag), Element(element.tag, dict(element.items()))


def _take_complete(file: Location, top: Element, wanted: frozenset[str]) -> Generator[FoundElement, None, Element]:
    """Yield what is complete, remove it from the tree, and return the innermost element that may still be open."""
    parent = top
    for _ in range(MAX_DEPTH):
        if not len(parent):
            return parent
        # All but the last child have ended.
        complete = parent[:-1]
        del parent[:-1]
        for child in complete:
            name = local_name(child.tag)
            if name in wanted:
                yield name, child
            elif len(child):
                yield from _found_in(child, wanted)
        parent = parent[-1]
        if local_name(parent.tag) in wanted:
            return parent
    raise ExportError(
        f"{file} is nested deeper than {MAX_DEPTH} levels, which no export of Harmony is; it is not read."
    )


def _found_in(element: Element, wanted: frozenset[str]) -> Generator[FoundElement, None, None]:
    waiting = [element]
    while waiting:
        element = waiting.pop()
        name = local_name(element.tag)
        if name in wanted:
            yield name, element
        else:
            waiting.extend(reversed(element))


def _too_large(file: Location, size: int, max_bytes: int) -> str:
    return f"{file} has {size} bytes; one of more than {max_bytes} bytes is not read."
