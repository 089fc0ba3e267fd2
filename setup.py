"""Builds the native launcher and installs it as ``sccache-twisted``; all else about the package is in setup.cfg.

Where no compiler makes one, or SCCACHE_TWISTED_PURE is set, the wheel is pure: its script has the native launcher built
after a user's first call.
"""

import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

from distutils.command.build_scripts import build_scripts  # isort: skip - setuptools' own, once that is imported

sys.path.insert(0, str(Path(__file__).parent))

from sccache_twisted.launcher import native


class BuildScripts(build_scripts):
    """The script under both of its names, and the native launcher over the first of them."""

    is_native = False

    def run(self) -> None:
        """Called by setuptools."""
        super().run()
        target = Path(self.build_dir) / os.fsdecode(native.NAME)
        for path in (target, target.with_name(os.fsdecode(native.PYTHON_NAME))):
            path.unlink(missing_ok=True)
            path.write_text(native.installed_script(), encoding="utf-8")
            path.chmod(0o755)
        if os.environ.get("SCCACHE_TWISTED_PURE"):
            return
        try:
            native.build(os.fsencode(target.absolute()), dict(os.environb))
        except native.NotBuiltError as problem:
            self.warn(f"no native launcher, the script is installed in its place: {problem}")
        else:
            self.is_native = True


class Wheel(bdist_wheel):
    """A wheel for one machine if a program is in it, for any Python 3 in either case."""

    def get_tag(self) -> tuple[str, str, str]:
        """Called by setuptools when everything is built."""
        if not self.get_finalized_command("build_scripts").is_native:
            return super().get_tag()
        self.root_is_pure = False
        return ("py3", "none", super().get_tag()[2])


setup(cmdclass={"build_scripts": BuildScripts, "bdist_wheel": Wheel})
