"""What `run` has found on a plate, for the stages that go on from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from artifact_mask.config import RunConfig
from artifact_mask.engine.journal import FieldRecord, open_journal, read_config, read_settings
from artifact_mask.errors import PlateError
from artifact_mask.io.illumination_profiles import StoredFlatField
from artifact_mask.io.ome_zarr_plate import StoredPlate
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey
from artifact_mask.workflows.measurements import OUTSIDE
from artifact_mask.workflows.planes import find_channel, stored_flat_fields


@dataclass(frozen=True)
class RunResults:
    """What `run` has found, and of what.

    Attributes
    ----------
    digest
        Of all that determined it.
    config
        That it was run with.
    records
        By field; those that it has not reached are absent.
    channels
        Index of the channel that was masked, by acquisition; those that lack it are absent.
    flat_fields
        That its pixels were divided by, by acquisition; absent for none.
    """

    digest: str
    config: RunConfig
    records: Mapping[FieldKey, FieldRecord]
    channels: Mapping[int, int]
    flat_fields: Mapping[int, StoredFlatField]

    @property
    def measured(self) -> list[FieldKey]:
        """Fields that have a mask."""
        return [key for key, record in self.records.items() if OUTSIDE in record.row and not record.failed]


def read_run(root: Location, stored: StoredPlate) -> RunResults:
    """Read what `run` has found on a plate.

    Raises
    ------
    PlateError
        If it has not been run on these images, or by another version, or with another flat field than the one that is
        there now.
    """
    journal, settings = open_journal(root, "run"), read_settings(root, "run")
    if journal is None or settings.get("ingest") != stored.ingest_digest:
        raise PlateError(f"{root} has no masks of the images that are there now. Run `artmask run {root.name}` first.")
    try:
        config = RunConfig.model_validate(read_config(root, "run"))
    except ValidationError as error:
        raise PlateError(f"The masks of {root} are of another version of artmask. Run `artmask run` again.") from error
    channels = {}
    for number, acquisition in enumerate(stored.plate.acquisitions):
        try:
            channels[number] = find_channel(acquisition, config.channel)
        except PlateError:
            continue
    found = stored_flat_fields(root, stored.ingest_digest, config.illumination)
    flat_fields = {number: found[number, c] for number, c in channels.items() if (number, c) in found}
    used = [value for name, value in settings.items() if name.partition(" of acquisition")[0] == "flat_field"]
    if sorted(StoredFlatField(*value).digest for value in used if value) != sorted(
        one.digest for one in flat_fields.values()
    ):
        raise PlateError(f"The flat field of {root} has changed since `artmask run`. Run that again first.")
    return RunResults(journal.digest, config, journal.read(), channels, flat_fields)
