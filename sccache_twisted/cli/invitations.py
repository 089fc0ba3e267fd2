"""``invite``, ``token`` on the scheduler's machine; ``join`` on the other one."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
from argparse import Namespace
from pathlib import Path

from sccache_twisted.cli.home import write_toml
from sccache_twisted.config import SchedulerSettings
from sccache_twisted.config.files import read_settings, state_directory, written_to
from sccache_twisted.errors import ConfigError, UserError
from sccache_twisted.interfaces import Role
from sccache_twisted.model import Address
from sccache_twisted.security import Invitation, SchedulerIdentity, TokenStore
from sccache_twisted.security.files import write_secret
from sccache_twisted.security.tokens import TOKENS_FILE


def invite(arguments: Namespace) -> int:
    """Make a token and print the one line; it is the token's only copy."""
    settings = _settings(arguments)
    if settings.insecure:
        raise UserError("This scheduler is insecure: it has no identity to invite anyone to, and admits everybody.")
    role = Role(arguments.role)
    address = _public_address(settings)
    identity = scheduler_identity(settings, address.host)
    tokens = _tokens(settings)
    name = arguments.name or _free_name(tokens, role)
    token = tokens.create(name, role, time.time())
    print(Invitation(role, address, identity.pin, token, scheduler=name).line())
    print(
        f'Token {name!r} for a {role.value}. There: "sccache-twisted join LINE". '
        f'To take it back: "sccache-twisted token revoke {shlex.quote(name)}".',
        file=sys.stderr,
    )
    return 0


def token_list(arguments: Namespace) -> int:
    """List names, roles and dates; tokens themselves are not kept."""
    records = _tokens(_settings(arguments)).names()
    if arguments.json:
        print(json.dumps([{"name": each.name, "role": each.role.value, "created": each.created} for each in records]))
        return 0
    for each in records:
        print(f"{each.name:<24} {each.role.value:<8} {time.strftime('%Y-%m-%d %H:%M', time.localtime(each.created))}")
    return 0


def token_revoke(arguments: Namespace) -> int:
    """End a token: at once for new links, and within a ping for open ones."""
    _tokens(_settings(arguments)).revoke(arguments.name)
    print(f"Token {arguments.name!r} is no longer valid.")
    return 0


def join(arguments: Namespace) -> int:
    """Write a role's file and token, and say what to start."""
    line = sys.stdin.readline() if arguments.line == "-" else arguments.line
    invitation = Invitation.parse(line)
    role = invitation.role.value
    usual = written_to(role, os.environ, os.getuid())
    config = Path(arguments.config).absolute() if arguments.config else usual
    if config.exists() and not arguments.force:
        raise UserError(f"{config} is there already: use --force to replace it, or --config for another file.")
    token_file = config.with_name(f"{config.stem}.token")
    write_secret(token_file, invitation.token.encode())
    write_toml(config, _joined(invitation, token_file, arguments.name))
    print(f"Wrote {config} and {token_file}.")
    named = "" if config == usual else f" --config {shlex.quote(str(config))}"
    if invitation.role is Role.WORKER:
        print(f"Start the worker:  twistd --nodaemon sccache-worker{named}")
        print("or as a service, with examples/systemd/sccache-twisted-worker.service")
    else:
        if named:
            print(f"Use it:  export SCCACHE_CONF={shlex.quote(str(config))}")
        print('Compile: make CC="sccache-twisted gcc" CXX="sccache-twisted g++"')
        print("A daemon that runs already reads it after:  sccache-twisted --stop-server")
    return 0


def scheduler_identity(settings: SchedulerSettings, host: str) -> SchedulerIdentity:
    """The scheduler's identity, made now if it was never started."""
    if settings.certificate_file:
        return SchedulerIdentity.from_files(settings.certificate_file, settings.key_file)
    return SchedulerIdentity.load_or_create(str(_state(settings)), [host, socket.gethostname()], time.time())


def _joined(invitation: Invitation, token_file: Path, name: str) -> dict[str, dict[str, object]]:
    if invitation.role is Role.CLIENT:
        return {"dist": {"schedulers": [invitation.url]}, "dist.auth": {"token_file": str(token_file)}}
    worker: dict[str, object] = {"schedulers": [invitation.url], "token_file": str(token_file)}
    return {"worker": {"name": name, **worker} if name else worker}


def _settings(arguments: Namespace) -> SchedulerSettings:
    return read_settings(SchedulerSettings, arguments.config, os.environ)


def _tokens(settings: SchedulerSettings) -> TokenStore:
    return TokenStore(_state(settings) / TOKENS_FILE)


def _state(settings: SchedulerSettings) -> Path:
    return state_directory("scheduler", settings.state_dir, os.environ, os.getuid())


def _free_name(tokens: TokenStore, role: Role) -> str:
    taken = {record.name for record in tokens.names()}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{role.value}-{number}") not in taken)


def _public_address(settings: SchedulerSettings) -> Address:
    """What others dial: scheduler.public, else this host's name and the port that it listens on."""
    if settings.public:
        try:
            return Address.parse(settings.public)
        except ValueError as error:
            raise ConfigError(f"scheduler.public: {error}.") from None
    kind, _, rest = settings.listen.partition(":")
    port = rest.partition(":")[0]
    if not kind.startswith("tcp") or not port.isdigit() or port == "0":
        raise ConfigError(f'The port in scheduler.listen = "{settings.listen}" is not fixed: set scheduler.public.')
    return Address(socket.getfqdn(), int(port))
