"""Run as an ordinary user: compile in the sandbox, attack what is this user's own, and print what came of it."""

import json
import os
import sys
from pathlib import Path

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from worker_confinement_kit import body
from worker_kit import TRY, Shop, action_of, digest_of, program_in

from sccache_twisted.errors import JobKilled
from sccache_twisted.model import Digest, DirectoryInput, FileInput

ATTACK = r"""
char *places[] = {"/opt/tool/sealed", "/in/a.h", "/new", 0};
for (char **p = places; *p; p++) {
    chmod(*p, 0777); unlink(*p); rename(*p, "/opt/tool/stolen");
    if (open(*p, O_WRONLY | O_CREAT, 0600) >= 0) printf("wrote %s\n", *p);
}
printf("mount %d\n", mount("none", "/in", "tmpfs", 0, 0) == 0);
printf("uid %d\n", getuid());
"""


async def main(directory: Path, digest: str, archive: str) -> dict[str, object]:
    """Compile, attack, be killed; what came of it."""
    shop = Shop(reactor, directory)
    shop.add_toolchain(Digest(digest), os.fsencode(archive))
    work = directory / "src"
    work.mkdir()
    (work / "a.c").write_text("int f(void) { return 1; }\n")
    action = action_of(Digest(digest), ["gcc", "-g", "-c", "a.c", "-o", "a.o"], work, ["a.o"], shop.blobs)
    compiled = await shop.executor.run(TRY, action, 0)
    (directory / "remote.o").write_bytes(compiled.outputs[0].data)

    content = b"int a;\n"
    shop.blobs.put(digest_of(content), content)
    attack = program_in(shop, body(ATTACK), outputs=[b"/opt/tool/a.o"])
    more = (FileInput(b"/in/a.h", digest_of(content), len(content), 1), DirectoryInput(b"/opt/tool"))
    attacked = await shop.executor.run(TRY, attrs.evolve(attack, inputs=attack.inputs + more), 0)

    try:
        await shop.executor.run(TRY, program_in(shop, body("for (;;) fork();")), 0)
        bomb = "went on"
    except JobKilled as killed:
        bomb = str(killed)
    await shop.executor.clear()
    left = shop.leftovers()
    intact = all(shop.toolchains.verify(Digest(one)) for one in (digest, attack.toolchain))
    shop.close()
    return {"attack": attacked.stdout.decode(), "bomb": bomb, "left": left, "intact": intact, "uid": os.getuid()}


def run() -> None:
    """Run to the end and stop the reactor."""

    def show(result: object) -> None:
        print(json.dumps(result if isinstance(result, dict) else str(result)))  # noqa: T201
        reactor.stop()

    Deferred.fromCoroutine(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])).addBoth(show)


if __name__ == "__main__":
    reactor.callWhenRunning(run)
    reactor.run()
