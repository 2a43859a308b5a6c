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

from ttc_jax.report.figures import images
from ttc_jax.report.sections import Section


def page(
    title: str,
    sections: Sequence[Section],
    trees: Mapping[str, Any],
    about: Sequence[Section] = (),
) -> str:
    """The report as HTML.

    Args:
      title: of the page.
      sections: what was found.
      trees: for the search-tree viewer, see `report.viewer.viewer`; left out where there are none.
      about: what it cost and how it was made, at the end.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("ttc_jax.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        sections=sections,
        about=about,
        images={
            section.name: _image(section) for section in sections if section.figure is not None
        },
        trees=_script(trees) if trees.get("trees") else "",
    )


def files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Figures and tables beside the page: PNG, SVG and CSV, named after their sections."""
    contents: dict[str, bytes] = {}
    for section in sections:
        if section.figure is not None:
            contents |= images(section.name, section.figure)
        for i, table in enumerate(section.tables):
            name = f"{section.name}_{i + 1}" if i else section.name
            contents[f"{name}.csv"] = table.csv.encode()
    return contents


def _image(section: Section) -> dict[str, Any]:
    assert section.figure is not None
    svg = images(section.name, section.figure)[f"{section.name}.svg"]
    width, height = section.figure.get_size_inches() * 72
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"
    return {"source": source, "width": round(width), "height": round(height)}


def _script(value: Mapping[str, Any]) -> Markup:
    """JSON that no text in it can lead out of its script element."""
    return htmlsafe_json_dumps(value, dumps=json.dumps, allow_nan=False)
