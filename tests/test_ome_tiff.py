"""OME-TIFFs have levels that are means, or every second label, and are what tifffile takes for OME."""

import io

import numpy as np
import pytest
import tifffile

from artifact_mask.io.ome_tiff import ImageDescription, encode_ome_tiff
from artifact_mask.kernels.pyramid import downsample_known, downsample_mean, downsample_nearest

DESCRIBED = ImageDescription("a <b> & c", ("Brightfield", "µ <1>"), 0.3, 2.0, 5.0, -7.5, 1.0, {"Dose <µM>": "1 & 2"})


def _pixels(dtype):
    pixels = np.random.default_rng(0).integers(0, 60000, (2, 2, 3, 1101, 700)).astype(dtype)
    if dtype == np.float32:
        pixels[..., 100:300, 50:400] = np.nan
    return pixels


@pytest.mark.parametrize(
    ("dtype", "downsample"),
    [(np.uint16, downsample_mean), (np.uint16, downsample_nearest), (np.float32, downsample_known)],
)
def test_every_level_of_every_plane_can_be_read(dtype, downsample):
    pixels = _pixels(dtype)
    with tifffile.TiffFile(io.BytesIO(encode_ome_tiff(pixels, DESCRIBED, downsample))) as file:
        assert file.is_ome
        (series,) = file.series
        assert series.is_pyramidal
        assert [level.shape for level in series.levels] == [
            (2, 2, 3, y, x) for y, x in ((1101, 700), (551, 350), (276, 175))
        ]
        np.testing.assert_array_equal(series.levels[0].asarray(), pixels)
        once = downsample(pixels[1, 0, 2])
        np.testing.assert_array_equal(series.levels[1].asarray()[1, 0, 2], once)
        np.testing.assert_array_equal(series.levels[2].asarray()[1, 0, 2], downsample(once))


def test_what_is_said_of_an_image_can_be_read_whatever_its_characters():
    content = encode_ome_tiff(_pixels(np.uint16)[..., :32, :32], DESCRIBED, downsample_mean)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        said = tifffile.xml2dict(file.ome_metadata)["OME"]
    image = said["Image"]
    assert image["Name"] == "a <b> & c"
    assert [channel["Name"] for channel in image["Pixels"]["Channel"]] == ["Brightfield", "µ <1>"]
    assert [plane["PositionZ"] for plane in image["Pixels"]["Plane"][:4]] == [1.0, 3.0, 5.0, 1.0]
    assert [plane["TheZ"] for plane in image["Pixels"]["Plane"][:4]] == [0, 1, 2, 0]
    (entry,) = [said["StructuredAnnotations"]["MapAnnotation"]["Value"]["M"]]
    assert (entry["K"], entry["value"]) == ("Dose <µM>", "1 & 2")
