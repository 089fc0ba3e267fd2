"""Which archives the trees come from: names, versions and digests, no addresses."""

from typing import Literal

from attrs import frozen


@frozen
class Source:
    """One pinned archive of a package registry.

    ``root`` is the folder inside the archive that is the tree; ``sha256`` is the archive's digest in hex.
    """

    project: str
    version: str
    registry: Literal["pip", "npm"]
    archive: str
    sha256: str
    root: str


LUPA = Source(
    project="lupa",
    version="2.8",
    registry="pip",
    archive="lupa-2.8.tar.gz",
    sha256="d8022641b9ec8ecf2c5ecbe9f47e5a70e0b87c4b5ae921b92cb02a638e0acd08",
    root="lupa-2.8/third-party",
)
PYNACL = Source(
    project="pynacl",
    version="1.6.2",
    registry="pip",
    archive="pynacl-1.6.2.tar.gz",
    sha256="018494d6d696ae03c7e656e5e74cdfd8ea1326962cc401bcf018f1ed8436811c",
    root="pynacl-1.6.2/src/libsodium",
)
RE2 = Source(
    project="re2",
    version="1.24.0",
    registry="npm",
    archive="re2-1.24.0.tgz",
    sha256="09536cb92d25ee341134af0285ff57dd3dd71dff83e689700fa851ad0626271b",
    root="package",
)
GEVENT = Source(
    project="gevent",
    version="24.11.1",
    registry="pip",
    archive="gevent-24.11.1.tar.gz",
    sha256="8bd1419114e9e4a3ed33a5bad766afff9a3cf765cb440a582a1b3a9bc80c1aca",
    root="gevent-24.11.1/deps",
)
"""Holds libev and c-ares, with their configure scripts."""
