"""Config files: where they lie, and what they say of themselves, read without running them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ttc_jax.errors import UserError

_PACKAGE = Path(__file__).parent
# Of a wheel inside the package, of a checkout beside it.
SHIPPED = next((x for x in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if x.is_dir()), None)


class Variant(NamedTuple):
    """What a config file says of one of its variants.

    Attributes:
      job: the job that takes it; "" where the file does not say.
      summary: one line.
    """

    job: str
    summary: str


def find(spec: str) -> tuple[Path, str]:
    """The file that a --config names, and the variant; "" for the default one.

    Args:
      spec: the name of a shipped config or the path of a file, then perhaps a colon and a variant:
        "math:qwen2_5", "configs/own.py:small".

    Raises:
      UserError: there is no such config; the line lists those that there are.
    """
    name, _, variant = spec.partition(":")
    path = Path(name)
    shipped = SHIPPED / f"{name}.py" if SHIPPED is not None and path.name == name else path
    for found in (shipped, path):
        if found.is_file():
            return found, variant
    own = [str(path) for path in sorted(Path("configs").glob("*.py"))]
    known = ", ".join([*(path.stem for path in _shipped()), *own])
    raise UserError(f"--config={spec}: no such file or shipped config; there are {known}")


def listing(job: str = "") -> Iterator[str]:
    """The lines of --help about configs: those shipped, then those in ./configs.

    Args:
      job: to list only the variants that this job takes, and those that do not say.
    """
    own = sorted(Path("configs").glob("*.py"))
    if SHIPPED is not None and own and own[0].parent.resolve() == SHIPPED.resolve():
        own = []
    for path in (*_shipped(), *own):
        name = path.stem if path.parent == SHIPPED else str(path)
        variants = {
            variant: found
            for variant, found in variants_of(path).items()
            if job in ("", found.job) or not found.job
        }
        if variants or not variants_of(path):
            yield f"  {name}  {docstring(path).partition(chr(10))[0]}"
        for variant, found in variants.items():
            yield f"    :{variant}  {found.summary}" + (f" (job: {found.job})" if found.job else "")


def docstring(path: Path) -> str:
    """The docstring of a Python file."""
    return ast.get_docstring(_parsed(path)) or ""


def variants_of(path: Path) -> dict[str, Variant]:
    """The literal `VARIANTS` of a config file: name -> summary, or name -> (job, summary)."""
    for node in _parsed(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if names == ["VARIANTS"] and isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            found = ast.literal_eval(node.value)
            return {
                name: Variant("", about) if isinstance(about, str) else Variant(*about)
                for name, about in found.items()
            }
    return {}


def _shipped() -> list[Path]:
    return sorted(SHIPPED.glob("*.py")) if SHIPPED is not None else []


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
