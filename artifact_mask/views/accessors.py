"""What `.artmask` does on arrays and datasets of a plate: draw, show in napari, and work on pixels lazily.

Matplotlib is imported where something is drawn: to open a plate must not wait for it.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from artifact_mask.config import ShippedUNet
from artifact_mask.errors import ConfigError, did_you_mean
from artifact_mask.location import to_location
from artifact_mask.views import lazy_kernels
from artifact_mask.views.napari_layers import show_in_napari

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN = 200
"""Fields of a montage: more take minutes to draw, and no one sees them."""
MOST_LISTED = 12
"""Names in a message."""


@xr.register_dataarray_accessor("artmask")
class ArrayView:
    """`.artmask` of an array of a plate."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def heatmap(self, *, axes: "Axes | None" = None, **style: Any) -> "Axes":
        """Draw a value for each well on a map of the plate.

        Parameters
        ----------
        axes
            To draw into; new ones if not given.
        style
            For :meth:`matplotlib.axes.Axes.pcolormesh`, such as ``cmap`` or ``vmax``.

        Raises
        ------
        ConfigError
            If the array is not one number for each well.

        Examples
        --------
        ``ds.artifact_fraction.mean("field").artmask.heatmap()``
        """
        from artifact_mask.io.plate_pictures import draw_heatmap

        array = self._array.squeeze(drop=True)
        if array.dims != ("well",) or array.dtype.kind not in "biuf":
            raise ConfigError(
                f"A heat map needs one number for each well; found {array.dtype} with the dimensions "
                f"{tuple(self._array.dims)}. Reduce the others first, such as with .mean('field')."
            )
        rows, columns = array["row"], array["column"]
        values = np.full(
            (
                max(rows.attrs.get("n_rows", 0), int(rows.max())),
                max(columns.attrs.get("n_columns", 0), int(columns.max())),
            ),
            np.nan,
        )
        values[rows.to_numpy() - 1, columns.to_numpy() - 1] = array.to_numpy()
        return draw_heatmap(values, title=_title(array), unit=array.attrs.get("units", ""), axes=axes, **style)

    def overlay(self, labels: xr.DataArray | None = None, *, axes: "Axes | None" = None, **style: Any) -> "Axes":
        """Draw one field with the outlines of labels.

        Parameters
        ----------
        labels
            Of the same field; none are drawn if not given.
        axes
            To draw into; new ones if not given.
        style
            For :meth:`matplotlib.axes.Axes.imshow`.

        Raises
        ------
        ConfigError
            If the array is more than one plane.
        """
        from artifact_mask.io.plate_pictures import draw_field

        image = _one_plane(self._array)
        outlines = None if labels is None else _one_plane(labels).to_numpy()
        return draw_field(image.to_numpy(), outlines, title=_place(image), axes=axes, **style)

    def montage(self, labels: xr.DataArray | None = None, **style: Any) -> Any:
        """Draw many fields, a row a well.

        Parameters
        ----------
        labels
            Of the same fields; none are drawn if not given.
        style
            For :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        numpy.ndarray
            The axes ``(well, field)``.

        Raises
        ------
        ConfigError
            If the array has other dimensions than well, field, y and x, or too many fields.
        """
        from artifact_mask.io.plate_pictures import draw_montage

        image = _grid_of_planes(self._array)
        n_fields = image.sizes["well"] * image.sizes["field"]
        if n_fields > MOST_DRAWN:
            raise ConfigError(
                f"{n_fields} fields are too many for a montage, expected {MOST_DRAWN} at most. Select some, such as "
                "with .isel(well=slice(0, 8)), and open the plate at a coarser level."
            )
        places = image.isel(y=0, x=0, drop=True)
        present = image.coords.get("present", xr.ones_like(places, bool)).broadcast_like(places)
        outlines = None if labels is None else _grid_of_planes(labels).to_numpy()
        return draw_montage(
            [
                [plane if there else None for plane, there in zip(row, of_row, strict=True)]
                for row, of_row in zip(image.to_numpy(), present.transpose("well", "field").to_numpy(), strict=True)
            ],
            None if outlines is None else [list(row) for row in outlines],
            row_titles=[str(name) for name in np.atleast_1d(image["well"].to_numpy())],
            column_titles=[f"field {index}" for index in np.atleast_1d(image["field"].to_numpy())],
            **style,
        )

    def correct_illumination(self, flat_field: xr.DataArray) -> xr.DataArray:
        """Divide images by a flat field, see :func:`artifact_mask.views.lazy_kernels.correct_illumination`."""
        return lazy_kernels.correct_illumination(self._array, flat_field)

    def edge_map(self, *, dilation_px: int = 5, saturated: float = 0.001) -> xr.DataArray:
        """Map the edges of fields, see :func:`artifact_mask.views.lazy_kernels.edge_map`."""
        return lazy_kernels.edge_map(self._array, dilation_px=dilation_px, saturated=saturated)

    def segment(
        self,
        model: ShippedUNet | Path | None = None,
        *,
        threshold: float | None = None,
        min_object_px: int | None = None,
        reach_um: float | None = None,
    ) -> xr.DataArray:
        """Find the artifacts of fields, see :func:`artifact_mask.views.lazy_kernels.segment`."""
        return lazy_kernels.segment(
            self._array, model, threshold=threshold, min_object_px=min_object_px, reach_um=reach_um
        )


@xr.register_dataset_accessor("artmask")
class PlateView:
    """`.artmask` of a plate that :func:`artifact_mask.open_plate` opened."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def __repr__(self) -> str:
        """Say what is on the plate, and how far it is, in a few lines."""
        dataset = self._dataset
        n = int(dataset["present"].sum())
        sizes = dataset.sizes
        lines = [
            f"{dataset.attrs['plate']}: {sizes['well']} wells, {n} fields of view "
            f"({sizes['well'] * sizes['field'] - n} missing), level {dataset.attrs['level']} of "
            f"{dataset.attrs['n_levels']}",
            f"  {dataset.attrs['url']} (OME-Zarr {dataset.attrs['ngff']})",
            f"  {sizes['y']} x {sizes['x']} pixels of {dataset.attrs['pixel_size_um']:.3g} um, "
            f"{sizes['t']} timepoints, {sizes['z']} planes",
            f"  channels: {', '.join(map(str, dataset['c'].to_numpy()))}",
            f"  labels: {', '.join(self._labels()) or 'none'}",
        ]
        for column, said in (("error", "failed"), ("rejected", "rejected")):
            if column in dataset:
                lines.append(f"  {said}: {int((dataset[column] != '').sum())} fields")
        return "\n".join(lines)

    def heatmap(self, column: str = "artifact_fraction", *, axes: "Axes | None" = None, **style: Any) -> "Axes":
        """Draw a column of the table of fields, its mean over each well; see :meth:`ArrayView.heatmap`."""
        values = self._variable(column)
        mean = values.mean("field", keep_attrs=True) if "field" in values.dims else values
        axes_drawn: Axes = mean.artmask.heatmap(axes=axes, **style)
        return axes_drawn

    def overlay(
        self, channel: str | None = None, *, labels: str | None = "artifacts", axes: "Axes | None" = None, **style: Any
    ) -> "Axes":
        """Draw one field with the outlines of a label image.

        Parameters
        ----------
        channel
            By default the one that was masked, or the only brightfield one.
        labels
            Name of the label image; None for none.
        axes, style
            As in :meth:`ArrayView.overlay`.

        Raises
        ------
        ConfigError
            If more than one field is selected, or there is no such channel or label image.

        Examples
        --------
        ``ds.sel(well="B03").isel(field=2).artmask.overlay()``
        """
        drawn: Axes = self._image(channel).artmask.overlay(self._outlines(labels), axes=axes, **style)
        return drawn

    def montage(self, channel: str | None = None, *, labels: str | None = "artifacts", **style: Any) -> Any:
        """Draw many fields with the outlines of a label image, a row a well; see :meth:`ArrayView.montage`.

        Parameters
        ----------
        channel, labels
            As in :meth:`overlay`.
        style
            For :meth:`matplotlib.axes.Axes.imshow`.
        """
        image = self._image(channel).assign_coords(present=self._dataset["present"])
        return image.artmask.montage(self._outlines(labels), **style)

    def correct_illumination(self) -> xr.DataArray:
        """Divide all images by the plate's flat field, as `artmask run` does; unchanged where it has none."""
        image, flat_field = self._dataset["image"], self._dataset.get("flat_field")
        return image if flat_field is None else lazy_kernels.correct_illumination(image, flat_field)

    def segment(
        self,
        model: ShippedUNet | Path | None = None,
        *,
        channel: str | None = None,
        threshold: float | None = None,
        min_object_px: int | None = None,
        reach_um: float | None = None,
    ) -> xr.DataArray:
        """Find the artifacts of all fields lazily: what `artmask run` would write, without writing it.

        Parameters
        ----------
        model, threshold, min_object_px, reach_um
            As in :func:`artifact_mask.views.lazy_kernels.segment`.
        channel
            By default the one that was masked, or the only brightfield one.
        """
        corrected = self.correct_illumination().sel(c=self._channel(channel))
        return corrected.artmask.segment(  # type: ignore[no-any-return]
            model, threshold=threshold, min_object_px=min_object_px, reach_um=reach_um
        )

    def to_napari(self) -> Any:
        """Open one field in napari, with all levels of the pyramid: its channels, labels and masked image as stored.

        Returns
        -------
        napari.Viewer

        Raises
        ------
        ConfigError
            If more than one field is selected, or napari is not installed.
        """
        well, field = (self._dataset[name] for name in ("well", "field"))
        if well.size != 1 or field.size != 1:
            raise ConfigError("napari shows one field. Select it: .sel(well='B03').isel(field=0).artmask.to_napari()")
        return show_in_napari(to_location(self._dataset.attrs["url"]), str(well.item()), int(field.item()))

    def _labels(self) -> list[str]:
        return [str(name) for name, values in self._dataset.items() if "label" in values.attrs and name != "masked"]

    def _image(self, channel: str | None) -> xr.DataArray:
        image = self._dataset["image"]
        return image.sel(c=self._channel(channel)) if "c" in image.dims else image

    def _channel(self, wanted: str | None) -> str:
        """Name of a channel, of the masked or the only brightfield one if none is wanted.

        Raises
        ------
        ConfigError
            If it is not there, or not clear.
        """
        names = [str(name) for name in np.atleast_1d(self._dataset["c"].to_numpy())]
        if wanted is None and "masked" in self._dataset:
            wanted = self._dataset["masked"].attrs["channel"]
        if wanted is None:
            kinds = np.atleast_1d(self._dataset["channel_kind"].to_numpy())
            brightfield = [name for name, kind in zip(names, kinds, strict=True) if kind == "brightfield"]
            if len(brightfield) != 1:
                raise ConfigError(
                    f"The plate has {len(brightfield)} brightfield channels. Name one of {_listed(names)}."
                )
            return brightfield[0]
        if wanted not in names:
            raise ConfigError(f"There is no channel {wanted!r}.{did_you_mean(wanted, names)} Found {_listed(names)}.")
        return wanted

    def _outlines(self, name: str | None) -> xr.DataArray | None:
        return None if name is None else self._variable(name)

    def _variable(self, name: str) -> xr.DataArray:
        if name not in self._dataset:
            known = [str(one) for one in self._dataset.data_vars]
            raise ConfigError(f"The plate has no {name!r}.{did_you_mean(name, known)} Found {_listed(known)}.")
        return self._dataset[name]


def _one_plane(array: xr.DataArray) -> xr.DataArray:
    """Take the first time and the middle plane of what is selected; all else must be one field."""
    chosen = _first_and_middle(array).squeeze(drop=False)
    if chosen.dims != ("y", "x"):
        raise ConfigError(
            f"One field is drawn at a time; found the dimensions {tuple(array.dims)}. Select one, such as with "
            ".sel(well='B03', c='Brightfield').isel(field=0)."
        )
    return chosen


def _grid_of_planes(array: xr.DataArray) -> xr.DataArray:
    """Take planes ``(well, field, y, x)``."""
    chosen = _first_and_middle(array)
    chosen = chosen.expand_dims([dim for dim in ("well", "field") if dim not in chosen.dims])
    others = [dim for dim in chosen.dims if dim not in ("well", "field", "y", "x")]
    if any(chosen.sizes[dim] > 1 for dim in others):
        raise ConfigError(
            f"A montage shows one plane of each field; found the dimensions {tuple(array.dims)}. Select one of "
            f"{', '.join(map(str, others))} first, such as with .sel(c='Brightfield')."
        )
    return chosen.squeeze(others).transpose("well", "field", "y", "x")


def _first_and_middle(array: xr.DataArray) -> xr.DataArray:
    """Take the first time and the middle plane of a stack, which is in focus."""
    places = {"t": 0, "z": array.sizes.get("z", 1) // 2}
    return array.isel({dim: place for dim, place in places.items() if dim in array.dims})


def _title(array: xr.DataArray) -> str:
    return str(array.name or "").replace("_", " ")


def _place(array: xr.DataArray) -> str:
    """Which field and channel an array is, as far as that is one."""
    named = (("", "well"), ("field ", "field"), ("", "c"))
    return " ".join(
        f"{said}{array[name].item()}" for said, name in named if name in array.coords and array[name].ndim == 0
    )


def _listed(names: Sequence[Hashable]) -> str:
    return ", ".join(repr(name) for name in names[:MOST_LISTED]) + (" ..." if len(names) > MOST_LISTED else "")
