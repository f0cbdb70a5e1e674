"""Where data sets come from, and what their content must be, without reading any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from widthlab.data.sources import SOURCES
from widthlab.data.stream import STREAMS
from widthlab.data.synthetic import TASKS


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a data set comes from.

    Attributes:
        kind: "packaged", "downloaded", "drawn" or "registered", by a chapter.
        where: the package that ships it, the hosts that it is downloaded from, or what
            draws it.
        hashes: what its content must be: hex digests by "algorithm of what". Drawn data
            have none: they follow from their specification.
    """

    kind: str
    where: str
    hashes: Mapping[str, str] = field(default_factory=dict)


def origin(name: str) -> Origin:
    """Return where a data set or synthetic task comes from.

    Raises:
        ValueError: there is none of that name.

    Examples:
        >>> origin("digits").where, origin("xor").kind
        ('scikit-learn', 'drawn')
    """
    from widthlab.data.download import remote_files
    from widthlab.data.packaged import packaged_file

    if any(registry.source(name) for registry in (SOURCES, TASKS, STREAMS)):
        return Origin("registered", "the chapter")
    if name in TASKS:  # whose names the library's streams bear too
        return Origin("drawn", "widthlab.data.Synthetic")
    SOURCES.find(name)
    if name == "gaussian-mixture":
        return Origin("drawn", "widthlab.data.DataSpec")
    if packaged := packaged_file(name):
        return Origin(
            "packaged", packaged[0], {"sha256 of decoded content": packaged[1]}
        )
    files = remote_files(name)
    hosts = dict.fromkeys(urlsplit(home).hostname for f in files for home in f.homes)
    hashes = {f"{f.hashed}, {f.name}": f.expected for f in files}
    return Origin("downloaded", ", ".join(map(str, hosts)), hashes)
