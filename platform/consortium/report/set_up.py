"""matplotlib, imported so that what a user has set up for other pictures is no matter here."""

from __future__ import annotations

import os

from consortium.common.errors import RunDirectoryError


def import_matplotlib() -> None:
    """Import matplotlib as it is without settings; to be called before a module of the report that draws is imported.

    A backend that it does not know would be its end, and there is no need for one here. Only ``matplotlibrc`` in the
    present folder it reads all the same; what that says of styles, :data:`consortium.report.drawing.STYLE` overrides.

    Raises:
        RunDirectoryError: that file cannot be read.
    """
    own = {name: os.environ.pop(name) for name in ("MPLBACKEND", "MATPLOTLIBRC") if name in os.environ}
    try:
        import matplotlib  # noqa: F401
    except (ValueError, OSError) as error:
        raise RunDirectoryError(
            f"matplotlib, which draws the report, cannot be set up: {error}.",
            "settings of matplotlib that it can read: matplotlibrc in the present folder, or in ~/.config/matplotlib.",
            "correct or remove that file.",
        ) from error
    finally:
        os.environ.update(own)
