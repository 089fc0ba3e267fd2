"""The way from TOML text and environment to settings, and what is said when it fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.config import ClientSettings, SchedulerSettings, WorkerSettings
from sccache_twisted.config.load import ROLES, all_rows, load
from sccache_twisted.config.values import written_size
from sccache_twisted.errors import ConfigError

HOME = {"HOME": "/home/u"}


def refusal(kind, text, environ=HOME):
    with pytest.raises(ConfigError) as caught:
        load(kind, text, "/c.toml", environ)
    return caught.value.sentence


@pytest.mark.parametrize("kind", ROLES.values())
def test_nothing_written_gives_the_defaults(kind):
    """An empty file and an empty environment give every default."""
    assert load(kind, "", "/c.toml", {}) == kind()


def test_values_are_read_in_every_unit():
    """Sizes, seconds, booleans, lists, paths and nested groups come out as the settings hold them."""
    text = """
    [worker]
    schedulers = ["tls://a:1?pin=sha256:00", "tls://b:2"]
    insecure = true
    slots = 3
    directory = "~/w"
    toolchain_cache_size = "10G"
    blob_cache_size = 4096
    [limits]
    job_memory = "1.5G"
    [timers]
    run_seconds = "500ms"
    drain_seconds = 2
    heartbeat_seconds = 0.25
    ping_seconds = "2s"
    reconnect_factor = 2
    [log]
    level = "debug"
    format = "json"
    """
    read = load(WorkerSettings, text, "/c.toml", HOME)
    assert read.schedulers == ("tls://a:1?pin=sha256:00", "tls://b:2")
    assert (read.insecure, read.slots, read.directory) == (True, 3, "/home/u/w")
    assert (read.toolchain_cache_size, read.blob_cache_size, read.job_memory_bytes) == (10 << 30, 4096, 3 << 29)
    assert (read.run_seconds, read.drain_seconds, read.heartbeat_seconds) == (0.5, 2.0, 0.25)
    assert (read.links.ping_seconds, read.links.reconnect_factor) == (2.0, 2.0)
    assert (read.log.level, read.log.format, read.log.file) == ("debug", "json", "")


def test_the_environment_wins_over_the_file():
    """A variable overrides its key; an empty one does not."""
    text = '[dist]\nschedulers = ["tls://a:1"]\nfallback = "never"\n[server]\nidle_seconds = 5\n[log]\nlevel = "warn"\n'
    environ = {
        "SCCACHE_DIST_SCHEDULERS": "tls://x:1, tls://y:2",
        "SCCACHE_DIST_FALLBACK": "",
        "SCCACHE_IDLE_TIMEOUT": "60",
        "SCCACHE_LOG": "debug",
    }
    read = load(ClientSettings, text, "/c.toml", environ)
    assert read.schedulers == ("tls://x:1", "tls://y:2")
    assert (read.fallback, read.idle_seconds, read.log.level) == ("never", 60.0, "debug")


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (ClientSettings, "[dist]\nfalback = 'never'\n", ("/c.toml:2:", "dist.falback", "dist.fallback?")),
        (ClientSettings, "[local]\n# slots\nslot = 3\n", ("/c.toml:3:", "local.slot", "local.slots?")),
        (ClientSettings, "dist.maxjobs = 3\n", ("/c.toml:1:", "dist.max_jobs?")),
        (ClientSettings, "[dits]\nfallback = 'never'\n", ("/c.toml:2:", "dist.fallback?")),
        (ClientSettings, "[zzz]\n", ("/c.toml:1:", "no key zzz", "docs/configuration.md")),
        (ClientSettings, "dist = 3\n", ("/c.toml:1:", "dist is a table")),
        (ClientSettings, "[worker]\nslots = 3\n", ("/c.toml:2:", "worker.slots", "worker's own file")),
        (WorkerSettings, "[dist]\nfallback = 'never'\n", ("dist.fallback", "client's own file")),
    ],
)
def test_an_unknown_key_is_named_with_its_place_and_the_nearest_known_one(kind, text, words):
    """An unknown key is an error that names it, its line, and the nearest known key or the role that has it."""
    sentence = refusal(kind, text)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[dist]\nscheduler_url = "http://a:10600"\n', ("/c.toml:2:", "dist.scheduler_url", "dist.schedulers")),
        ('[dist.auth]\ntype = "token"\n', ("dist.auth.type", "dist.auth.token_file")),
        (
            "[cache.disk.preprocessor_cache_mode]\nuse_preprocessor_cache_mode = true\n",
            ("cache.disk.preprocessor_cache_mode", "remove the table"),
        ),
        ('[[dist.toolchains]]\ntype = "no_dist"\n', ("dist.toolchains", "packaged by themselves")),
        ("[dist]\nrewrite_includes_only = true\n", ("dist.rewrite_includes_only", "remove it")),
        ("server_startup_timeout_ms = 10000\n", ("server_startup_timeout_ms", "remove it")),
    ],
)
def test_a_key_of_sccache_is_named_with_our_equivalent(text, words):
    """A key that sccache has and we have not says what to write instead."""
    sentence = refusal(ClientSettings, text)
    assert "sccache's key" in sentence
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[dist]\nmax_jobs = 'many'\n", ("/c.toml:2: dist.max_jobs must be a whole number", '"many"')),
        ("[dist]\nmax_jobs = 1.5\n", ("must be a whole number", "1.5")),
        ("[dist]\nmax_jobs = true\n", ("must be a whole number", "true")),
        ("[dist]\nmax_jobs = 0\n", ("dist.max_jobs must be at least 1, not 0",)),
        ("[dist]\nschedulers = 'tls://a:1'\n", ("must be a list of strings",)),
        ("[dist]\nschedulers = [1]\n", ("must be a list of strings",)),
        ("[dist]\nfallback = 'sometimes'\n", ("dist.fallback must be one of", '"allow", "never"', '"sometimes"')),
        ("[dist]\ninsecure = 'yes'\n", ("must be true or false",)),
        ("[dist]\ntoolchain_cache_size = '10X'\n", ("must be a number of bytes", '"10X"')),
        ("[dist]\ntoolchain_cache_size = -1\n", ("must be at least 0",)),
        ("[timers]\nsilence_seconds = 'soon'\n", ("must be a number of seconds", '"soon"')),
        ("[timers]\nsilence_seconds = nan\n", ("must be a number of seconds",)),
        ("[timers]\nsilence_seconds = inf\n", ("must be a number of seconds",)),
        ("[timers]\nsilence_seconds = '10ms'\n", ("at least 0.1",)),
        ("[dist]\ncache_dir = 'relative'\n", ("must be an absolute path", '"relative"')),
        ("[timers]\nping_seconds = []\n", ("/c.toml:2: timers.ping_seconds must be a number of seconds",)),
        ("[dist.fallback]\nx = 1\n", ("dist.fallback.x",)),
        ("[timers]\nsilence_seconds = 2024-01-01\n", ("must be a number of seconds", "2024-01-01")),
    ],
)
def test_a_wrong_value_says_what_is_expected_and_what_is_there(text, words):
    """A value of the wrong type, below its minimum or outside its choices gives a sentence with both."""
    sentence = refusal(ClientSettings, text)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[dist]\nfallback == 'x'\n", "/c.toml:2:"),
        ("[dist\n", "/c.toml:1:"),
        ('a = "', "/c.toml:1:"),
        ("x = 1\nx = 2", "/c.toml:2:"),
    ],
)
def test_malformed_toml_names_line_and_column(text, place):
    """What is not TOML is refused with file, line and column, whole or at the end of the text."""
    sentence = refusal(ClientSettings, text)
    assert sentence.startswith(place), sentence
    assert sentence.split(":")[2].isdigit()
    assert "not TOML" in sentence


def test_a_wrong_variable_is_named():
    """A bad environment value names the variable and the key it stands for."""
    sentence = refusal(ClientSettings, "", {"SCCACHE_LOCAL_SLOTS": "several"})
    assert "SCCACHE_LOCAL_SLOTS" in sentence
    assert "local.slots" in sentence


def test_a_secret_is_never_repeated():
    """Neither an error nor a repr shows a token."""
    sentence = refusal(ClientSettings, "[dist.auth]\ntoken = ['s3cr3t']\n")
    assert "dist.auth.token" in sentence
    assert "s3cr3t" not in sentence
    read = load(ClientSettings, "[dist.auth]\ntoken = 's3cr3t'\n", "/c.toml", {})
    assert read.token == "s3cr3t"
    assert "s3cr3t" not in repr(read)


def test_a_home_path_needs_a_home():
    """A path below ~ without HOME is refused."""
    assert "HOME" in refusal(ClientSettings, "[dist]\ncache_dir = '~/x'\n", {})


@pytest.mark.parametrize("kind", ROLES.values())
def test_every_row_is_well_made(kind):
    """Keys are unique in a role, documented, and their defaults pass their own bounds."""
    found = list(all_rows(kind))
    assert len({row.dotted for row in found}) == len(found)
    for row in found:
        assert row.doc.endswith("."), row.dotted
        assert row.minimum is None or row.default >= row.minimum, row.dotted
        assert not row.choices or row.default in row.choices, row.dotted


def test_one_variable_means_one_thing():
    """An environment name belongs to one key only, whichever the role."""
    owners = {}
    for kind in (ClientSettings, SchedulerSettings, WorkerSettings):
        for row in all_rows(kind):
            if row.env:
                assert owners.setdefault(row.env, row.dotted) == row.dotted


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_written_size_reads_back(count):
    """The short form of a size means the same number of bytes."""
    text = f'[dist]\ntoolchain_cache_size = "{written_size(count)}"\n'
    assert load(ClientSettings, text, "c", {}).toolchain_cache_size == count


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text):
    """Whatever the text, the answer is settings or a ConfigError."""
    try:
        load(ClientSettings, text, "c", {})
    except ConfigError as error:
        assert error.sentence.startswith("c:")  # noqa: PT017 - either is right


@given(
    st.dictionaries(
        st.sampled_from([row.env for kind in ROLES.values() for row in all_rows(kind) if row.env]), st.text(max_size=12)
    )
)
def test_no_environment_breaks_the_reader(environ):
    """Whatever the variables hold, the answer is settings or a ConfigError that names one."""
    try:
        load(ClientSettings, "", "c", environ)
    except ConfigError as error:
        assert any(name in error.sentence for name in environ)  # noqa: PT017 - either is right
