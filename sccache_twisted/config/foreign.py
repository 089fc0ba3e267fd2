"""Keys that sccache has and we have not, or under another name: what to write instead.

Looked up by the longest dotted prefix, so a whole table needs one row.
"""

from __future__ import annotations

FOREIGN: dict[str, str] = {
    "dist.scheduler_url": "write dist.schedulers, a list such as "
    '["tls://build.example:10600?pin=sha256:…"]; "sccache-twisted join LINE" writes it for you',
    "dist.auth.type": 'tokens are of one kind; write dist.auth.token_file, or use "sccache-twisted join LINE"',
    "dist.auth": "write dist.auth.token_file or dist.auth.token",
    "dist.toolchains": "compilers are packaged by themselves, each with everything it needs; remove the table",
    "dist.rewrite_includes_only": "sources travel as they are, with the files that they include; remove it",
    "server_startup_timeout_ms": "the launcher waits as long as the daemon needs to start; remove it",
    "cache.disk.preprocessor_cache_mode": "results are found without running the preprocessor wherever that is safe; "
    "remove the table",
    "cache.redis.cluster_endpoints": "one server holds the entries; write cache.redis.endpoint",
    "cache.gcs": "Google's storage speaks S3's language too; write cache.s3 with "
    'endpoint = "https://storage.googleapis.com" and HMAC keys',
    "cache.oss": "Alibaba's storage speaks S3's language too; write cache.s3 with its endpoint and "
    "enable_virtual_host_style = true",
    "cache.cos": "Tencent's storage speaks S3's language too; write cache.s3 with its endpoint and "
    "enable_virtual_host_style = true",
    "cache.azure": "there is no Azure back end; write cache.s3, cache.redis, cache.webdav or cache.memcached",
    "cache.gha": "there is no GitHub Actions back end; write cache.s3, cache.redis, cache.webdav or cache.memcached",
    "scheduler_url": "write worker.schedulers, a list",
    "scheduler_auth": "write worker.token_file",
    "bind_address": 'write worker.listen, a Twisted endpoint such as "tcp:10501"',
    "cache_dir": "write worker.directory",
    "toolchain_cache_size": "write worker.toolchain_cache_size",
    "builder.type": 'write worker.builder = "bubblewrap"',
    "builder.build_dir": "write worker.directory",
    "builder.bwrap_path": "write worker.bwrap",
    "builder": "write worker.builder, worker.directory and worker.bwrap",
    "client_auth": 'tokens are made by "sccache-twisted invite client"; remove the table',
    "server_auth": 'tokens are made by "sccache-twisted invite worker"; remove the table',
    "public_addr": "write worker.public or scheduler.public, HOST:PORT",
}


def equivalent(dotted: str) -> str:
    """What to write instead of sccache's key ``dotted``; empty if sccache has no such key either."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        found = FOREIGN.get(".".join(parts[:length]))
        if found is not None:
            return found
    return ""
