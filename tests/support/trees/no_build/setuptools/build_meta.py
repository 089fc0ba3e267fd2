"""Answers pip's questions about an unpacked archive out of its PKG-INFO.

pip asks a project's own build system for its metadata before it hands over the archive. For a package that wraps a
C library that question alone takes minutes of compiling; we want the archive and nothing else.
"""

import sys
from email.parser import Parser
from pathlib import Path


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Nothing is built, so nothing is required."""
    return []


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: object = None) -> str:
    """Write NAME-VERSION.dist-info/METADATA for the archive in the current directory; its folder's name."""
    told = Parser().parsestr(Path("PKG-INFO").read_text(encoding="utf-8"), headersonly=True)
    folder = f"{told['Name'].replace('-', '_')}-{told['Version']}.dist-info"
    written = Path(metadata_directory, folder)
    written.mkdir()
    written.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {told['Name']}\nVersion: {told['Version']}\n", encoding="utf-8"
    )
    return folder


# The name under which pip looks for the hooks of a project without a pyproject.toml.
__legacy__ = sys.modules[__name__]
