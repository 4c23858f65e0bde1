"""`artmask report`: what was found on plates, on one page to send around."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from artifact_mask.config import ReportConfig
from artifact_mask.errors import ArtmaskError, ConfigError, did_you_mean
from artifact_mask.io.files import write_atomically
from artifact_mask.io.ome_zarr_plate import StoredPlate, find_plates, read_plate
from artifact_mask.io.report_content import PlateContent
from artifact_mask.io.report_fields import Picture, encode_pictures
from artifact_mask.io.report_page import OverviewRow, overview_row, write_page
from artifact_mask.location import Location
from artifact_mask.workflows.progress import FieldFailure, Progress, Silent
from artifact_mask.workflows.report_pictures import PictureSize, choose_size, draw_pictures
from artifact_mask.workflows.report_plate import find_pictures, read_content

LARGEST_PAGE_BYTES = 14_500_000
"""Of a page whose pictures' size is chosen here: what a mailbox takes, and a browser opens at once."""
MOST_FIELDS_ON_A_PAGE = 5000
"""With more, each plate gets a page of its own; pictures would be too small to see anything."""
_FEWEST_CHARACTERS = 600
"""Of a picture; less shows nothing."""
_NAMED = 5
"""Fields without a picture that are named; there may be thousands."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes
    ----------
    page
        The one to open.
    pages
        All of them, that one first.
    not_drawn
        Fields without a picture, though nothing is said to be wrong with them.
    refused
        Plates that could not be read, and why.
    """

    page: Location
    pages: tuple[Location, ...]
    not_drawn: tuple[FieldFailure, ...]
    refused: Mapping[str, str]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing that should be there."""
        return not (self.not_drawn or self.refused)


def write_report(config: ReportConfig, progress: Progress | None = None) -> Report:
    """Write a report of some plates: maps, fields with outlines, distributions, tables, and where it all comes from.

    Parameters
    ----------
    config
        Which plates, and where to.
    progress
        Listener; it is told what is left out.

    Returns
    -------
    Report
        The page. Up to :data:`MOST_FIELDS_ON_A_PAGE` fields it is the only file; for more on several plates it is an
        index, with a page a plate in the folder ``<name>-plates`` beside it.

    Raises
    ------
    PlateError
        If there is no such plate, or the only one cannot be read; of several, such a one is named in the report.
    ConfigError
        If no plate has the column to colour by.
    StorageError
        If a store cannot be reached.
    OSError
        If the page cannot be written.

    Notes
    -----
    Pixels are read from the coarse levels of the pyramids alone. Plates are read one after the other; in memory is
    what one page holds.
    """
    progress = progress or Silent()
    plates = find_plates(config.plates)
    dest = config.dest or Path.cwd() / f"{_name_of(config.plates)}-report.html"
    progress.begin("report", sum(plates.values()) if config.thumbnails else 0)
    writer = _Writer(config, dest, progress, is_alone=len(plates) == 1)
    if len(plates) > 1 and sum(plates.values()) > MOST_FIELDS_ON_A_PAGE:
        pages = writer.write_pages(plates)
    else:
        pages = writer.write_one_page(plates)
    _note_not_drawn(writer.not_drawn, progress)
    return Report(dest, pages, tuple(writer.not_drawn), writer.refused)


class _Writer:
    """Writes the pages, and remembers what is missing on them."""

    def __init__(self, config: ReportConfig, dest: Location, progress: Progress, *, is_alone: bool) -> None:
        self._config, self._dest, self._progress, self._is_alone = config, dest, progress, is_alone
        self.not_drawn: list[FieldFailure] = []
        self.refused: dict[str, str] = {}

    def write_one_page(self, plates: Mapping[Location, int]) -> tuple[Location, ...]:
        """Write all plates on one page."""
        read = dict(self._read(plates))
        opened = {root: outcome for root, outcome in read.items() if not isinstance(outcome, str)}
        contents = [content for _, content in opened.values()]
        _require_column(self._config.column, contents)
        rows = []
        for root, outcome in read.items():
            if isinstance(outcome, str):
                rows.append(OverviewRow(root.name, outcome))
            else:
                rows.append(overview_row(outcome[1], section=len([r for r in rows if r.section >= 0])))
        title = contents[0].name if self._is_alone else _name_of(self._config.plates)
        overview = [] if self._is_alone else rows
        if self._config.thumbnails and opened:
            bare = len(write_page(title, contents, overview, column=self._config.column))
            n_fields = sum(stored.plate.n_fields for stored, _ in opened.values())
            size = self._choose_size(LARGEST_PAGE_BYTES - bare, n_fields)
            contents = [
                replace(content, pictures=self._draw(root, stored, content, size))
                for root, (stored, content) in opened.items()
            ]
        page = write_page(title, contents, overview, column=self._config.column)
        self._write(self._dest, page)
        return (self._dest,)

    def write_pages(self, plates: Mapping[Location, int]) -> tuple[Location, ...]:
        """Write a page a plate, and an index of them."""
        folder = self._dest.parent / f"{self._dest.stem}-plates"
        rows: list[OverviewRow] = []
        pages: list[Location] = []
        for root, outcome in self._read(plates):
            if isinstance(outcome, str):
                rows.append(OverviewRow(root.name, outcome))
                continue
            stored, content = outcome
            name = _unused(f"{_stem(root)}.html", {page.name for page in pages})
            if self._config.thumbnails:
                bare = len(write_page(content.name, [content], [], column=self._config.column))
                size = self._choose_size(LARGEST_PAGE_BYTES - bare, stored.plate.n_fields)
                content = replace(content, pictures=self._draw(root, stored, content, size))
            self._write(folder / name, write_page(content.name, [content], [], column=self._config.column))
            pages.append(folder / name)
            rows.append(overview_row(content, link=f"{folder.name}/{name}"))
        self._write(self._dest, write_page(_name_of(self._config.plates), [], rows, column=None))
        return (self._dest, *pages)

    def _read(
        self, plates: Mapping[Location, int]
    ) -> Iterator[tuple[Location, tuple[StoredPlate, PlateContent] | str]]:
        """Read what is said of each plate; of one that cannot be read, why."""
        for root in plates:
            try:
                stored = read_plate(root)
                yield root, (stored, read_content(root, stored))
            except ArtmaskError as error:
                if self._is_alone:
                    raise
                self._progress.note(f"A plate is left out: {error}")
                self.refused[str(root)] = str(error)
                yield root, str(error)

    def _choose_size(self, characters: int, n_fields: int) -> PictureSize:
        size = choose_size(max(characters // max(n_fields, 1) - 40, _FEWEST_CHARACTERS))
        given = self._config.thumbnail_px
        return size if given is None else size._replace(longest_px=given, characters=None)

    def _draw(self, root: Location, stored: StoredPlate, content: PlateContent, size: PictureSize) -> dict[str, str]:
        """Draw the fields of a plate, well by well in the order of the table."""
        source = find_pictures(root, stored, content.label)
        fields = content.tables["fields"]
        wells = {well.name: well.path for well in stored.plate.wells}
        keys = [(wells[well], int(index)) for well, index in zip(fields["well"], fields["field"], strict=True)]
        by_well: dict[str, list[Picture]] = {}
        rows = fields[["well", "field_id", "error"]].itertuples(index=False, name=None)
        for (well, field_id, error), picture in zip(rows, draw_pictures(source, keys, size), strict=True):
            if picture.error and not error:
                self.not_drawn.append(FieldFailure(content.name, str(well), int(field_id), picture.error))
            self._progress.advance(1, int(bool(picture.error)), len(picture.jpeg))
            by_well.setdefault(str(well), []).append(picture)
        return {well: encode_pictures(pictures) for well, pictures in by_well.items()}

    def _write(self, path: Location, page: bytes) -> None:
        write_atomically(path, page)
        if len(page) > LARGEST_PAGE_BYTES:
            self._progress.note(
                f"{path.name} has {len(page) / 1e6:.0f} MB: smaller pictures (--thumbnail-px) make it less."
            )


def _note_not_drawn(failures: list[FieldFailure], progress: Progress) -> None:
    if failures:
        number = "1 field has" if len(failures) == 1 else f"{len(failures)} fields have"
        named = "; ".join(f"{one.plate} {one.well} field {one.field_id}: {one.error}" for one in failures[:_NAMED])
        more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
        progress.note(f"{number} no picture, though the tables have no error of them: {named}{more}.")


def _require_column(column: str | None, contents: list[PlateContent]) -> None:
    known = dict.fromkeys(str(name) for content in contents for name in content.tables["wells"])
    if column is not None and contents and column not in known:
        raise ConfigError(
            f"No table of wells has a column {column!r}.{did_you_mean(column, known)} They have {', '.join(known)}."
        )


def _name_of(places: tuple[Location, ...]) -> str:
    return _stem(places[0]) if len(places) == 1 else "plates"


def _stem(root: Location) -> str:
    return root.name.removesuffix(".zarr").strip(".") or "plates"


def _unused(name: str, taken: set[str]) -> str:
    """Name that no other page has: stores in different folders may be called the same."""
    stem, number, unused = name.removesuffix(".html"), 1, name
    while unused in taken:
        number += 1
        unused = f"{stem}-{number}.html"
    return unused
