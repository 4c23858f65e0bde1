"""What a field shows: its channels, its masked image and its labels, as layers of a viewer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from artifact_mask.errors import PlateError
from artifact_mask.io.label_images import list_labels
from artifact_mask.io.layout import LAYOUTS
from artifact_mask.io.zarr_group import Group, read_group
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, NgffVersion

REGION_COLOURS = {"artifacts": "#ff4040", "weak": "#ff9d2e", "corrected": "#e85cff", "stain": "#3fa9ff"}
"""Of label images that say where something is; of others, such as cells, each object has a colour of its own."""
_SHADER = """#uicontrol invlerp contrast
#uicontrol vec3 colour color(default="#ffffff")
void main() { emitRGB(colour * contrast()); }
"""


class ImageLayer(NamedTuple):
    """One channel of an image.

    Attributes
    ----------
    name
        For people; no two layers of a field have the same.
    path
        Of the image's group, in that of the field; empty for the field's own.
    channel
        Index in the image.
    window
        Values that are shown black and fully lit.
    colour
        As ``#rrggbb``.
    is_visible
        At first.
    """

    name: str
    path: str
    channel: int
    window: tuple[float, float]
    colour: str
    is_visible: bool


class LabelLayer(NamedTuple):
    """One label image: its name for people, the path of its group in the field's, and whether it is shown at first."""

    name: str
    path: str
    is_visible: bool


def list_layers(folder: Location) -> list[ImageLayer | LabelLayer]:
    """List what a field has to show, the lowest first.

    Parameters
    ----------
    folder
        Group of the field.

    Returns
    -------
    list[ImageLayer | LabelLayer]
        The channels, of which the first is visible; the masked image, which is not; label images, of which only
        artifacts are, or weak labels where there are none.

    Raises
    ------
    PlateError
        If the field is not in the store, or its metadata is damaged.
    """
    group = read_group(folder)
    if group is None:
        raise PlateError("The field is not in the store: run `artmask ingest` again.")
    layers: list[ImageLayer | LabelLayer] = []
    for c, channel in enumerate(_channels(group)):
        layers.append(_image_layer(channel["label"], "", c, channel, is_visible=c == 0))
    masked = read_group(folder / "masked")
    if masked is not None:
        layers += [
            _image_layer(f"{channel['label']}, masked", "masked", c, channel, is_visible=False)
            for c, channel in enumerate(_channels(masked))
        ]
    labels = list_labels(folder)
    shown = next((name for name in ("artifacts", "weak") if name in labels), None)
    layers += [LabelLayer(f"labels/{name}", f"labels/{name}", name == shown) for name in labels]
    return _with_names_of_their_own(layers)


def describe_view(
    layers: Sequence[ImageLayer | LabelLayer], place: str, acquisition: Acquisition, field: Field, *, ngff: NgffVersion
) -> dict[str, Any]:
    """State of Neuroglancer that shows the layers of a field from above, its middle in the middle of the window.

    Parameters
    ----------
    layers
        Of the field.
    place
        Path of the field's group on the server.
    acquisition, field
        Which field it is.
    ngff
        Version of the plate.

    Notes
    -----
    Neuroglancer counts along each axis in steps of the axis, from the centre of the pixel at the origin of the well. Of
    a stack the middle plane is shown, which is in focus.
    """
    z, y, x = acquisition.shape[2:]
    pixel_um = acquisition.pixel_size_um
    kind = f"|zarr{LAYOUTS[ngff].zarr_format}:"
    return {
        "dimensions": {
            "x": [pixel_um * 1e-6, "m"],
            "y": [pixel_um * 1e-6, "m"],
            "z": [acquisition.z_step_um * 1e-6, "m"],
            "t": [acquisition.t_step_s, "s"],
        },
        "position": [
            field.x_um / pixel_um + (x - 1) / 2,
            field.y_um / pixel_um + (y - 1) / 2,
            field.z_um / acquisition.z_step_um + z // 2,
            0,
        ],
        "layers": [
            {"name": layer.name, "source": _address(place, layer.path) + kind, "visible": layer.is_visible}
            | (_describe_image(layer) if isinstance(layer, ImageLayer) else _describe_labels(layer))
            for layer in layers
        ],
        "layout": "xy",
        "showAxisLines": False,
        "showDefaultAnnotations": False,
    }


def _describe_image(layer: ImageLayer) -> dict[str, Any]:
    lights = layer.colour.lower() != "#ffffff"
    return {
        "type": "image",
        "localDimensions": {"c'": [1, ""]},
        "localPosition": [layer.channel],
        "opacity": 1,
        # What glows adds up; a bright field hides what is below it.
        "blend": "additive" if lights else "default",
        "shader": _SHADER,
        "shaderControls": {"contrast": {"range": list(layer.window)}, "colour": layer.colour},
    }


def _describe_labels(layer: LabelLayer) -> dict[str, Any]:
    colour = REGION_COLOURS.get(layer.path.removeprefix("labels/"))
    described = {"type": "segmentation", "selectedAlpha": 0.4}
    return described | ({"segmentDefaultColor": colour} if colour else {})


def _address(place: str, path: str) -> str:
    """Address of an image; whatever its name is made of."""
    return quote("/".join(part for part in (place, path) if part)) + "/"


def _image_layer(name: str, path: str, channel: int, description: Mapping[str, Any], *, is_visible: bool) -> ImageLayer:
    window = description["window"]
    low, high = (float(window[end]) for end in ("start", "end"))
    return ImageLayer(name, path, channel, (low, high), f"#{description['color']}", is_visible)


def _channels(group: Group) -> list[dict[str, Any]]:
    omero = group.ome.get("omero") or group.attributes.get("omero") or {}
    channels: list[dict[str, Any]] = omero.get("channels", [])
    return channels


def _with_names_of_their_own(layers: Iterable[Any]) -> list[Any]:
    taken: set[str] = set()
    named = []
    for layer in layers:
        name, n = layer.name, 1
        while name in taken:
            n += 1
            name = f"{layer.name} ({n})"
        taken.add(name)
        named.append(layer._replace(name=name))
    return named
