"""Frozen values that the whole house speaks in.

Knows: what a job, a worker, a compilation and a result are made of. Refuses to know: how any of
them travels, is stored, or is decided about. Paths are bytes everywhere; sizes are bytes; times are
seconds, except ``mtime_ns``.
"""

from sccache_twisted.model.action import (
    JOB_TEMPORARY,
    Action,
    ActionResult,
    DirectoryInput,
    FileInput,
    Input,
    LinkInput,
    OutputFile,
    RunFigures,
)
from sccache_twisted.model.compilation import (
    Compilation,
    Compiler,
    CompilerFamily,
    NotCacheable,
    NotCompilation,
    Output,
    OutputKind,
    ParsedCommand,
    ToolchainKey,
)
from sccache_twisted.model.figures import JobFigures, RunsLocally, Transfers
from sccache_twisted.model.identity import (
    SERVER_DOMAIN,
    ClientId,
    Digest,
    JobId,
    ServerId,
    Try,
    mint_job_id,
    mint_server_id,
    server_host,
    server_id_of_host,
    worker_name,
)
from sccache_twisted.model.placement import Address, Allocation, AllocationRequest, Beat, ClusterFigures, WorkerCard

__all__ = [
    "JOB_TEMPORARY",
    "SERVER_DOMAIN",
    "Action",
    "ActionResult",
    "Address",
    "Allocation",
    "AllocationRequest",
    "Beat",
    "ClientId",
    "ClusterFigures",
    "Compilation",
    "Compiler",
    "CompilerFamily",
    "Digest",
    "DirectoryInput",
    "FileInput",
    "Input",
    "JobFigures",
    "JobId",
    "LinkInput",
    "NotCacheable",
    "NotCompilation",
    "Output",
    "OutputFile",
    "OutputKind",
    "ParsedCommand",
    "RunFigures",
    "RunsLocally",
    "ServerId",
    "ToolchainKey",
    "Transfers",
    "Try",
    "WorkerCard",
    "mint_job_id",
    "mint_server_id",
    "server_host",
    "server_id_of_host",
    "worker_name",
]
