"""report.html: one file that needs no other, nor the network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from matplotlib.figure import Figure

from ttc_jax.report.style import PHONE, images
from ttc_jax.report.table import Section


def page(
    title: str,
    sections: Sequence[Section],
    figures: Mapping[str, bytes],
    trees: Mapping[str, Any],
    about: Sequence[Section] = (),
    findings: Sequence[str] = (),
) -> str:
    """The report as HTML.

    Args:
      title: of the page.
      sections: what was found.
      figures: by file name, see `files`.
      trees: for the search-tree viewer, see `report.viewer.viewer`; left out where there are none.
      about: what it cost and how it was made, at the end.
      findings: sentences at its top.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("ttc_jax.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        findings=findings,
        sections=sections,
        about=about,
        images={
            section.name: _image(section.figure, figures[f"{section.name}.svg"])
            | {"narrow": _narrow(section)}
            for section in sections
            if section.figure is not None
        },
        csv=lambda section, place: {
            "name": _csv_name(section, place),
            "source": _data("text/csv", section.tables[place - 1].csv.encode()),
        },
        trees=_script(trees) if trees.get("trees") else "",
    )


def files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Figures and tables beside the page: PNG, SVG and CSV, named after their sections."""
    contents: dict[str, bytes] = {}
    for section in sections:
        if section.figure is not None:
            contents |= images(section.name, section.figure)
        for i, table in enumerate(section.tables, 1):
            contents[_csv_name(section, i)] = table.csv.encode()
    return contents


def _csv_name(section: Section, place: int) -> str:
    """The file of a section's table; the first is 1."""
    return f"{section.name}.csv" if place == 1 else f"{section.name}_{place}.csv"


def _image(figure: Figure, svg: bytes) -> dict[str, Any]:
    # As an image and not inlined: there its ids meet no others, and nothing in it can run.
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    return {"source": _data("image/svg+xml", svg), "width": width, "height": height}


def _narrow(section: Section) -> dict[str, Any]:
    """The figure of a section as a telephone shows it."""
    assert section.draw is not None
    figure = section.draw(PHONE)
    return _image(figure, images("narrow", figure, ("svg",), PHONE)["narrow.svg"])


def _data(kind: str, content: bytes) -> str:
    """A link that holds what it leads to."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _script(value: Mapping[str, Any]) -> Markup:
    """JSON that no text in it can lead out of its script element."""
    return htmlsafe_json_dumps(value, dumps=json.dumps, allow_nan=False)
