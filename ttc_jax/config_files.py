"""Config files: where they lie, and what they say of themselves, read without running them."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ttc_jax.errors import UserError

_PACKAGE = Path(__file__).parent
# A wheel has them inside the package, a checkout beside it.
SHIPPED = next((x for x in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if x.is_dir()), None)


class Variant(NamedTuple):
    """A variant of a config file, as the file lists it.

    Attributes:
      job: the job that takes it; "" where the file does not say.
      summary: one line.
    """

    job: str
    summary: str

    def __str__(self) -> str:
        return self.summary + (f" (job: {self.job})" if self.job else "")


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
    known = ", ".join(_known())
    raise UserError(f"--config={spec}: no such file or shipped config; there are {known}")


def listing(jobs: Collection[str] = ()) -> Iterator[str]:
    """The lines of --help about configs: those shipped, then those in ./configs.

    Args:
      jobs: to list only the variants that one of these takes, and those that do not say.
    """
    for name, path in _known().items():
        every = variants_of(path)
        variants = {x: y for x, y in every.items() if not jobs or y.job in ("", *jobs)}
        if variants or not every:
            yield f"  {name}  {docstring(path).partition(chr(10))[0]}"
        for variant, found in variants.items():
            yield f"    :{variant}  {found}"


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


def _known() -> dict[str, Path]:
    """The configs that there are, by the name that --config takes; those in ./configs last."""
    shipped = sorted(SHIPPED.glob("*.py")) if SHIPPED is not None else []
    own = Path("configs")
    theirs = (
        sorted(own.glob("*.py")) if SHIPPED is None or own.resolve() != SHIPPED.resolve() else []
    )
    return {path.stem: path for path in shipped} | {str(path): path for path in theirs}


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
