"""From what a user writes in `authorized_imports` to what an index is asked for.

People name what they import (`sklearn`); an index knows distributions (`scikit-learn`). Most share one name, the table
has the well-known others, and `name>=1` says a version.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.errors import ConfigurationError

_DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",  # the other one wants libraries of a desktop
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "google.protobuf": "protobuf",
    "igraph": "igraph",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "Levenshtein": "levenshtein",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "osgeo": "GDAL",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "pylab": "matplotlib",
    "pywt": "PyWavelets",
    "sentence_transformers": "sentence-transformers",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "umap": "umap-learn",
    "usaddress": "usaddress",
    "win32com": "pywin32",
    "xlsxwriter": "XlsxWriter",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
"""Import name -> distribution, where the two differ by more than case, `-` and `_`."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NAME = re.compile(r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?P<extras>\[[A-Za-z0-9._,\s-]+\])?")
_VERSION = re.compile(r"(===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package that snippets may import."""

    asked: str
    """What the user wrote, without its version."""
    specifier: str
    """What the index is asked for: `scikit-learn>=1.3`."""
    module: str | None
    """What is imported in advance; None: whatever the distribution brings."""

    @property
    def versioned(self) -> bool:
        """Whether certain versions were asked for."""
        return any(sign in self.specifier for sign in "<>=!~")

    @property
    def distribution(self) -> str:
        """The distribution's name in its normal form."""
        found = _NAME.match(self.specifier)
        return normal(found["name"]) if found else self.specifier


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(names: Iterable[str]) -> tuple[Requirement, ...]:
    """What is wanted beyond the standard library, sorted, each once.

    Args:
        names: import names (`numpy`, `matplotlib.pyplot`, `numpy.*`) or distributions (`scikit-learn>=1.3`).

    Raises:
        ConfigurationError: one of them is neither, or is an address, a path or an option of an installer; or all are
            one text.
    """
    refuse_text(names)
    found: dict[str, Requirement] = {}
    for name in names:
        requirement = _parse(name)
        if requirement is not None:
            found[requirement.specifier + (requirement.module or "")] = requirement
    return tuple(found[key] for key in sorted(found))


def refuse_text(names: object) -> None:
    """A text is a sequence too: of letters, each of which an index may know.

    Raises:
        ConfigurationError: it is one.
    """
    if isinstance(names, str | bytes):
        raise ConfigurationError(
            f"authorized_imports: {names!r} is one text, not a list of names", hint=f"write [{names!r}]"
        )


def _parse(text: object) -> Requirement | None:
    if not isinstance(text, str):
        raise ConfigurationError(f"authorized_imports: {text!r} is no text")
    spec = text.strip()
    if spec == "*":
        raise ConfigurationError(
            "authorized_imports: '*' names no package",
            hint="name those that snippets may import; the standard library is always there",
        )
    if _MODULE.fullmatch(spec.removesuffix(".*")):
        spec = spec.removesuffix(".*")
        top = spec.split(".")[0]
        if top in sys.stdlib_module_names:
            return None
        return Requirement(spec, _DISTRIBUTIONS.get(spec, _DISTRIBUTIONS.get(top, top)), spec)
    found = _NAME.match(spec)
    versions = [part.strip() for part in spec[found.end() :].split(",")] if found else []
    if found is None or not all(_VERSION.fullmatch(part) for part in versions if part or len(versions) > 1):
        raise ConfigurationError(
            f"authorized_imports: {text!r} is no package",
            hint="a name (`pandas`) or a name and versions (`pandas>=2,<4`); addresses and paths are not taken",
        )
    name, extras = found["name"], (found["extras"] or "").replace(" ", "")
    if name in sys.stdlib_module_names:
        return None
    module = name if name in _DISTRIBUTIONS else None
    return Requirement(name, _DISTRIBUTIONS.get(name, name) + extras + ",".join(versions), module)
