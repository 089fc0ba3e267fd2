"""Where configuration is found, and how its secrets are guarded."""

from pathlib import Path

import pytest

from sccache_twisted.config import ClientSettings, WorkerSettings, files
from sccache_twisted.config.files import found_at, read_settings, written_to
from sccache_twisted.config.reference import bounds_table, configuration_page, with_bounds
from sccache_twisted.errors import ConfigError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def environ(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SYSTEM_DIRECTORY", tmp_path / "etc")
    return {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}


def test_with_no_file_the_defaults_hold(environ):
    """A machine without any file runs on the defaults."""
    assert read_settings(ClientSettings, None, environ) == ClientSettings()


def test_the_users_file_comes_before_the_machines(environ, tmp_path):
    """A user's own file hides the one below /etc; a file named in SCCACHE_CONF or by --config hides both."""
    write(tmp_path / "etc" / "client.toml", "[dist]\nmax_jobs = 1\n")
    assert read_settings(ClientSettings, None, environ).max_jobs == 1
    write(tmp_path / "xdg" / "sccache-twisted" / "client.toml", "[dist]\nmax_jobs = 2\n")
    assert read_settings(ClientSettings, None, environ).max_jobs == 2
    write(tmp_path / "mine.toml", "[dist]\nmax_jobs = 3\n")
    assert read_settings(ClientSettings, None, environ | {"SCCACHE_CONF": str(tmp_path / "mine.toml")}).max_jobs == 3
    assert found_at("worker", environ) is None


def test_root_writes_below_etc_and_users_below_xdg(environ, tmp_path):
    """Join writes where the role will look."""
    assert written_to("worker", environ, 0) == tmp_path / "etc" / "worker.toml"
    assert written_to("worker", environ, 1000) == tmp_path / "xdg" / "sccache-twisted" / "worker.toml"


def test_a_named_file_must_be_there(environ, tmp_path):
    """A file that was named and is missing is an error that names it."""
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        read_settings(WorkerSettings, tmp_path / "absent.toml", environ)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("[dist.auth]\ntoken = 'abc'\n", "token"),
        ("[cache.webdav]\ntoken = 'abc'\n", "token"),
        ("[cache.redis]\npassword = 'abc'\n", "password"),
        ("[cache.redis]\nurl = 'redis://:abc@a'\n", "password"),
    ],
)
def test_a_secret_that_others_can_read_is_refused(environ, tmp_path, text, secret, mode):
    """A configuration file with a token or a password in it must be its owner's alone."""
    (tmp_path / "c.toml").write_text(text)
    (tmp_path / "c.toml").chmod(mode)
    with pytest.raises(ConfigError, match=f"holds a {secret} and others can read it: chmod 600") as caught:
        read_settings(ClientSettings, tmp_path / "c.toml", environ)
    assert "abc" not in str(caught.value)


def test_a_file_without_secrets_may_be_anybodys(environ, tmp_path):
    """Only a token asks for a private file; one that comes from the environment does not."""
    (tmp_path / "c.toml").write_text("[dist]\nmax_jobs = 7\n[cache.redis]\nurl = 'redis://a'\n")
    (tmp_path / "c.toml").chmod(0o644)
    read = read_settings(ClientSettings, tmp_path / "c.toml", environ | {"SCCACHE_DIST_TOKEN": "t"})
    assert (read.max_jobs, read.token) == (7, "t")


def test_a_file_that_is_no_text_is_refused(environ, tmp_path):
    """Bytes that are not UTF-8 are refused with file and line, and so is a file beyond all reason."""
    path = tmp_path / "c.toml"
    path.write_bytes(b"[dist]\n\xff\n")
    with pytest.raises(ConfigError, match=r"c\.toml:2: this is not UTF-8"):
        read_settings(ClientSettings, path, environ)
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="no configuration file"):
        read_settings(ClientSettings, path, environ)


DOCS = Path(__file__).parents[2] / "docs"


def test_the_documentation_is_the_table():
    """docs/configuration.md is what the table of keys says now; ``make docs`` writes it."""
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == configuration_page()


def test_the_documented_bounds_are_the_defaults():
    """The bounds in docs/security.md are those of the table of keys."""
    page = (DOCS / "security.md").read_text(encoding="utf-8")
    assert bounds_table() in page
    assert with_bounds(page) == page
