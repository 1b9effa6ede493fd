"""A bill of materials of a bundle in CycloneDX 1.6: its files, the models and data that it was made from, packages.

Every entry that has one carries its SHA-256. CycloneDX's model card is left to the bundle's own: the Python library
does not write it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from toolkit.bundle.card_metadata import model_name
from toolkit.bundle.format import Bundle
from toolkit.bundle.manifest import Manifest, Origin
from toolkit.errors import require_packages
from toolkit.files import atomic_file

if TYPE_CHECKING:
    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component

DIGEST = re.compile(r"[0-9a-f]{64}")
PROPERTY = "tinybert-toolkit"


@dataclass
class _Parts:
    """The components of a bill by reference, and for each which others it was made from."""

    components: dict[str, Component] = field(default_factory=dict)
    made_from: list[tuple[Component, list[Component]]] = field(default_factory=list)

    def add(self, component: Component) -> Component:
        """Add a component, or give the one that has its reference already: splits are shared by many models."""
        return self.components.setdefault(str(component.bom_ref.value), component)


def write_bom(bundle: Bundle, path: Path) -> None:
    """Write the bill of materials of an opened bundle as JSON.

    Raises:
        ToolkitError: `cyclonedx-python-lib` is missing, or the file cannot be written.
    """
    require_packages("cyclonedx", purpose="a bill of materials")
    with atomic_file(path, fix="--bom with a file in a folder that can be written") as partial:
        partial.write_text(bom_json(bundle), encoding="utf-8")


def bom_json(bundle: Bundle) -> str:
    """Make the bill of materials of an opened bundle."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    parts = _Parts()
    model = _bundle(bundle)
    packages = [parts.add(_package(name, version)) for name, version in bundle.manifest["versions"].items()]
    _add_origins(parts, model, bundle.manifest, packages)
    bom = Bom(components=parts.components.values(), serial_number=uuid5(NAMESPACE_URL, f"bundle:{bundle.digest}"))
    bom.metadata.component = model
    for component, others in parts.made_from:
        bom.register_dependency(component, others)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def _bundle(bundle: Bundle) -> Component:
    """Make the component of the bundle itself, with its files."""
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense

    manifest = bundle.manifest
    files = [
        Component(type=ComponentType.FILE, name=name, bom_ref=f"file:{name}", hashes=_hashes(record["sha256"]))
        for name, record in manifest["files"].items()
    ]
    task = manifest["task"]
    facts = {
        "kind": manifest["kind"], "precision": manifest["precision"], "max_length": str(manifest["max_length"]),
        "bundle_digest": bundle.digest, **({"labels": ", ".join(task["labels"])} if task else {}),
        **{f"metric:{name}": f"{value:.6f}" for name, value in manifest["metrics"].items()},
    }  # fmt: skip
    weights = bundle.weights.relative_to(bundle.path).as_posix()
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL, name=model_name(manifest), version=bundle.digest[:12],
        bom_ref=f"bundle:{bundle.digest}", hashes=_hashes(manifest["files"][weights]["sha256"]), components=files,
        licenses=[DisjunctiveLicense(name=manifest["license"])] if "license" in manifest else [],
        properties=[Property(name=f"{PROPERTY}:{name}", value=value) for name, value in facts.items()],
    )  # fmt: skip


def _add_origins(parts: _Parts, model: Component, record: Manifest | Origin, packages: list[Component]) -> None:
    """Add the data and the models that a model was made from, and theirs, down to the first encoder."""
    others = [*packages, *(parts.add(data) for data in _data(record))]
    for origin in (record.get("made_from") or {}).values():
        component = parts.add(_origin(origin))
        others.append(component)
        _add_origins(parts, component, origin, [])
    parts.made_from.append((model, others))


def _origin(origin: Origin) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    on_hub = "revision" in origin
    name = origin["name"] if on_hub else Path(origin["name"]).name
    identity = origin.get("digest") or origin.get("weights_sha256") or origin.get("revision") or "unknown"
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL, name=name, version=origin["revision"] if on_hub else identity[:12],
        bom_ref=f"{origin['kind']}:{name}:{identity}", description=origin["kind"],
        hashes=_hashes(origin.get("digest") or origin.get("weights_sha256")),
    )  # fmt: skip


def _data(record: Manifest | Origin) -> Iterator[Component]:
    """Yield the data sets of a bundle's record: splits by digest, and the files of a corpus."""
    from cyclonedx.model.component import Component, ComponentType

    for name, values in (record.get("data") or {}).items():
        for value in values if isinstance(values, list) else [values]:
            title, digest = (name, value) if isinstance(value, str) else _file_of(name, value)
            if isinstance(digest, str) and DIGEST.fullmatch(digest):
                yield Component(
                    type=ComponentType.DATA, name=title, bom_ref=f"data:{title}:{digest}", hashes=_hashes(digest)
                )


def _file_of(name: str, value: object) -> tuple[str, object]:
    if not isinstance(value, Mapping):
        return name, None
    return Path(str(value.get("path", name))).name, value.get("sha256")


def _package(name: str, version: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        type=ComponentType.LIBRARY, name=name, version=version, bom_ref=f"pypi:{name}@{version}",
        purl=PackageURL("pypi", name=name, version=version),
    )  # fmt: skip


def _hashes(digest: str | None) -> list[HashType]:
    from cyclonedx.model import HashAlgorithm, HashType

    if digest is None or not DIGEST.fullmatch(digest):
        return []
    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
