"""Fetches the pinned archives through pip and npm as this machine has them configured, and unpacks them once.

Everything lands in one cache directory: SCCACHE_TWISTED_TREES, else ``.trees`` in the repository.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.trees.catalog import Source

REPOSITORY = Path(__file__).resolve().parents[3]
NO_BUILD = Path(__file__).resolve().parent / "no_build"
TRIES = 4


class FetchFailed(Exception):
    """An archive could not be had, or is not the one that is pinned."""


def cache_directory() -> Path:
    """Where archives, unpacked trees and recordings are kept between runs."""
    chosen = os.environ.get("SCCACHE_TWISTED_TREES")
    directory = Path(chosen).resolve() if chosen else REPOSITORY / ".trees"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Let one process at a time make the thing called ``name`` in the cache directory."""
    locks = cache_directory() / "locks"
    locks.mkdir(exist_ok=True)
    with open(locks / name, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(source: Source, tries: int = TRIES) -> Path:
    """Return the unpacked root of ``source``, for reading only; FetchFailed if it can't be had in so many tries."""
    home = cache_directory() / "sources" / f"{source.project}-{source.version}-{source.sha256[:12]}"
    with only_one(f"source-{source.project}"):
        if not home.is_dir():
            archive = _archive(source, tries)
            home.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home.parent) as unpacked:
                with tarfile.open(archive) as tar:
                    _unpack(tar, unpacked)
                if not Path(unpacked, source.root).is_dir():
                    raise FetchFailed(f"{source.archive} holds no folder {source.root}")
                inner = Path(unpacked, source.root.split("/", maxsplit=1)[0])
                # The rename is what makes the tree exist: a reader never sees a half-unpacked one.
                inner.rename(home)
    return home.joinpath(*source.root.split("/")[1:])


def _unpack(tar: tarfile.TarFile, place: str) -> None:
    """Unpack what a digest has vouched for, as ours and writable by nobody else."""
    if hasattr(tarfile, "data_filter"):
        tar.extractall(place, filter="data")
        return
    # Python before 3.10.12 and 3.11.4, which is Debian 12's, has no filters.
    members = tar.getmembers()
    for member in members:
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        member.mode = 0o755 if member.isdir() else (member.mode | 0o600) & 0o755
    tar.extractall(place, members)  # noqa: S202 - its digest was compared


def _archive(source: Source, tries: int) -> Path:
    kept = cache_directory() / "archives" / source.archive
    kept.parent.mkdir(exist_ok=True)
    if kept.is_file() and _sha256(kept) == source.sha256:
        return kept
    complaint = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(2**attempt)
        with tempfile.TemporaryDirectory(dir=kept.parent) as landing:
            done = _download(source, Path(landing))
            landed = Path(landing, source.archive)
            if done.returncode or not landed.is_file():
                complaint = (done.stderr or done.stdout)[-1500:].strip()
                continue
            found = _sha256(landed)
            if found != source.sha256:
                raise FetchFailed(f"{source.archive} has sha256 {found}, but {source.sha256} is pinned")
            landed.rename(kept)
            return kept
    raise FetchFailed(
        f"{source.project} {source.version} could not be fetched with {source.registry} in {tries} tries. "
        f"The trees need a package registry once; is the network there?\n{complaint}"
    )


def _download(source: Source, landing: Path) -> subprocess.CompletedProcess[str]:
    """Run the registry's own client, which knows its mirrors and proxies."""
    if source.registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise FetchFailed(f"npm is not installed; it fetches {source.project}")
        pinned = f"{source.project}@{source.version}"
        argv = [npm, "pack", pinned, "--ignore-scripts", "--pack-destination", str(landing)]
        environment = dict(os.environ)
    else:
        pinned = f"{source.project}=={source.version}"
        argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
        argv += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517", "--dest", str(landing), pinned]
        # Without this stand-in pip would run the archive's own build system to learn its name.
        environment = {**os.environ, "PYTHONPATH": str(NO_BUILD)}
    return subprocess.run(
        argv, cwd=landing, env=environment, capture_output=True, text=True, timeout=600, check=False, errors="replace"
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
