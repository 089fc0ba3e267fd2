"""invite and token on the scheduler's machine, join on the other one."""

import json
import os
import stat

import pytest
from cli_support import command

from sccache_twisted.config import ClientSettings, WorkerSettings
from sccache_twisted.config.files import read_settings
from sccache_twisted.errors import Unauthorized
from sccache_twisted.interfaces import Role
from sccache_twisted.security import Invitation, SchedulerIdentity, TokenStore
from sccache_twisted.security.files import read_token
from sccache_twisted.security.tokens import TOKENS_FILE


@pytest.fixture
def scheduler(tmp_path):
    config = tmp_path / "scheduler.toml"
    config.write_text(f'[scheduler]\npublic = "build.example:10600"\nstate_dir = "{tmp_path}/state"\n')
    return config


def invited(scheduler, role, *more):
    made = command("invite", role, "--config", scheduler, *more)
    assert made.returncode == 0, made.stderr
    assert len(made.stdout.splitlines()) == 1
    return made.stdout.strip()


def test_an_invitation_is_one_line_that_names_everything(scheduler, tmp_path):
    """Invite prints address, pin and a token that the scheduler's store accepts for that role only."""
    invitation = Invitation.parse(invited(scheduler, "worker", "--name", "rack-7"))
    assert (invitation.role, str(invitation.address)) == (Role.WORKER, "build.example:10600")
    assert invitation.pin == SchedulerIdentity.load_or_create(str(tmp_path / "state"), ["x"], 0.0).pin
    tokens = TokenStore(tmp_path / "state" / TOKENS_FILE)
    assert tokens.check(Role.WORKER, invitation.token) == "rack-7"
    with pytest.raises(Unauthorized):
        tokens.check(Role.CLIENT, invitation.token)


def test_tokens_are_listed_and_revoked_by_name(scheduler, tmp_path):
    """Without --name tokens are numbered; a revoked one is listed no more and accepted no more."""
    first = Invitation.parse(invited(scheduler, "client"))
    invited(scheduler, "client")
    listed = json.loads(command("token", "list", "--json", "--config", scheduler).stdout)
    assert [(each["name"], each["role"]) for each in listed] == [("client-1", "client"), ("client-2", "client")]
    assert first.token not in json.dumps(listed)
    assert command("token", "revoke", "client-1", "--config", scheduler).returncode == 0
    assert "client-1" not in command("token", "list", "--config", scheduler).stdout
    with pytest.raises(Unauthorized):
        TokenStore(tmp_path / "state" / TOKENS_FILE).check(Role.CLIENT, first.token)
    again = command("token", "revoke", "client-1", "--config", scheduler)
    assert again.returncode == 2
    assert "no token named" in again.stderr


@pytest.mark.parametrize(("role", "kind"), [("client", ClientSettings), ("worker", WorkerSettings)])
def test_join_writes_what_the_role_reads(scheduler, tmp_path, role, kind):
    """Join writes a file and a token file, both 0600, from which the role reads scheduler, pin and token."""
    line = invited(scheduler, role)
    config = tmp_path / "there" / f"{role}.toml"
    joined = command("join", line, "--config", config)
    assert joined.returncode == 0, joined.stderr
    settings = read_settings(kind, config, {})
    invitation = Invitation.parse(line)
    assert settings.schedulers == (invitation.url,)
    assert read_token(settings.token, settings.token_file) == invitation.token
    for path in (config, settings.token_file):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert invitation.token not in joined.stdout
    assert "sccache-worker" in joined.stdout if role == "worker" else "CC=" in joined.stdout


def test_join_replaces_nothing_unasked(scheduler, tmp_path):
    """A file that is there stays unless --force is given."""
    config = tmp_path / "client.toml"
    config.write_text("# mine\n")
    line = invited(scheduler, "client")
    refused = command("join", line, "--config", config)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert config.read_text() == "# mine\n"
    assert command("join", line, "--config", config, "--force").returncode == 0
    assert "tls://build.example" in config.read_text()


def test_join_reads_the_line_from_standard_input(scheduler, tmp_path):
    """A dash instead of the line keeps it out of the process list."""
    config = tmp_path / "client.toml"
    assert command("join", "-", "--config", config, stdin=invited(scheduler, "client") + "\n").returncode == 0
    assert config.exists()


def test_without_config_a_user_joins_in_his_own_directory(scheduler, tmp_path):
    """A named place is only needed for what is unusual; a worker's name goes into its file."""
    line = invited(scheduler, "worker")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    config = tmp_path / "w.toml"
    assert command("join", line, "--name", "rack-9", "--config", config, env=home).returncode == 0
    assert read_settings(WorkerSettings, config, {}).name == "rack-9"


@pytest.mark.parametrize("line", ["", "hello", "sccache-twisted://a:1/client/sha256:00/t/s/00000000"])
def test_a_damaged_line_is_refused(tmp_path, line):
    """A line that is cut or altered writes nothing."""
    config = tmp_path / "client.toml"
    refused = command("join", line, "--config", config)
    assert refused.returncode == 2
    assert "nvitation" in refused.stderr
    assert not config.exists()


def test_an_insecure_scheduler_invites_nobody(tmp_path):
    """Without identities there is nothing to hand out."""
    config = tmp_path / "scheduler.toml"
    config.write_text(f'[scheduler]\ninsecure = true\nstate_dir = "{tmp_path}/state"\n')
    refused = command("invite", "client", "--config", config)
    assert refused.returncode == 2
    assert "insecure" in refused.stderr


def test_a_port_that_is_not_fixed_needs_a_public_address(tmp_path):
    """An invitation names a port, so it can't be made for port 0."""
    config = tmp_path / "scheduler.toml"
    config.write_text(f'[scheduler]\nlisten = "tcp:0"\nstate_dir = "{tmp_path}/state"\n')
    refused = command("invite", "client", "--config", config)
    assert refused.returncode == 2
    assert "scheduler.public" in refused.stderr
