"""What the HTML report needs beside this package: Jinja2 for its text, Vega for its charts."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

from pytest_ptq.errors import InstallationError
from pytest_ptq.report.printable import printable

if TYPE_CHECKING:
    from jinja2 import Environment

REMEDY = "pip install 'pytest-ptq[report]'"


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which reads nothing from a network.

    Raises InstallationError when the package that brings it is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise _missing("vl-convert-python") from error
    text: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # Its own names would be everybody's.
    return f"(() => {{\n{text}\n}})();".replace("</script", r"<\/script").replace("<!--", r"<\!--")


@cache
def library_versions() -> str:
    """Which releases the script holds: `Vega 6.2.0, Vega-Lite 6.4, Vega-Embed 7.0.2`."""
    import vl_convert

    lite = vl_convert.get_vegalite_versions()[-1]
    return f"Vega {vl_convert.get_vega_version()}, Vega-Lite {lite}, Vega-Embed {vl_convert.get_vega_embed_version()}"


@cache
def environment() -> Environment:
    """Jinja2 over this package's templates; everything is escaped, and a name that nobody defined is an error.

    Raises InstallationError when Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise _missing("Jinja2") from error
    # Whatever a template shows may have come from a file of somebody else's.
    return Environment(
        finalize=lambda value: printable(value) if type(value) is str else value,
        loader=PackageLoader("pytest_ptq.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source_hash(text: str) -> str:
    """By which a Content-Security-Policy lets exactly this script or style run: `'sha256-...'`."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _missing(package: str) -> InstallationError:
    return InstallationError(f"the HTML report needs {package}, which is not installed", remedy=f"Run: {REMEDY}")
