"""The four conversations, told before the first class. Meaning goes by AMP, bytes go by HTTPS.

1. **launcher and daemon**: one unix-stream connection a call (``wire.launcher``). A frame is a u32 length
   (big-endian) and a body; a body is one kind byte and fields; a field is a u32 length and bytes, a list a u32
   count and fields.

   - launcher: ``R`` request: protocol (b"1"), cwd, umask (decimal), stderr-is-a-terminal (b"0"/b"1"),
     argv list, environment list (``NAME=value``)
   - daemon, one of: ``D`` done: status (decimal), stdout, stderr · ``X`` run it yourself: executable path, argv
     list, reason, note for stderr (usually empty) · ``S`` run it in a local slot and tell me: slot number (decimal),
     executable, argv list
   - launcher, after ``S``: ``C`` completed: status, stdout, stderr
   - daemon, after ``C``: ``D`` with what the launcher shows and exits with (usually the same bytes again)

   A closed connection cancels the call. The same frames carry commands: launcher-side ``Q``: name (``stats``,
   ``zero-stats``, ``stop``, ``dist-status``, ``ping``), arguments list; answered by ``A``: JSON text, or
   ``E``: sentence.

2. **client and scheduler**: AMP over TLS, one lasting link a daemon: ``Hello``, ``AllocateJob``, ``ReportJob``,
   ``ReportLocal``, ``CancelJob``, ``ClusterStatus``, ``Ping``; the scheduler says ``WorkerLost`` and ``Ping``. The
   façade provides ``ISchedulerForClients``, the other direction ``IClientPeer``.

3. **worker and scheduler**: AMP over TLS, one lasting link, dialled by the worker: ``Hello``, ``Register``,
   ``Heartbeat``, ``JobState``, ``Draining``, ``Ping``; the scheduler says ``AssignJob``, ``CancelJob``, ``Drain`` and
   ``Ping``.
   ``ISchedulerForWorkers`` and ``IWorkerPeer``.

4. **client and worker**: HTTPS (``wire.http``), ``Authorization: Bearer <the attempt's token>``,
   ``X-Job: <job_id>/<attempt>`` on every request.

   - ``POST /v1/toolchains/{digest}``: whose turn is it to upload? JSON ``{"turn": "present" | "yours" | "wait"}``.
     ``yours`` reserves the turn for this attempt until its upload ends, stalls or does not begin in ``claim_seconds``;
     ``wait``: another's upload goes on, so send the job, whose answer shows progress until the toolchain is there.
   - ``PUT /v1/toolchains/{digest}``: the body is the tar.zst, from the holder of the turn. 201 stored, 200 was there
     already, else an error.
   - ``POST /v1/jobs/{job_id}/{attempt}``: body ``application/x-sccache-job``, zstd: u32 header length, msgpack header
     (the Action, and ``blobs``: [[digest, size], …] that follow inline), then those blobs one after another.
     The answer is a stream of frames: u32 length, one kind byte, payload (msgpack):
     ``p`` progress {phase} at least every ``progress_seconds`` · ``m`` missing [digest, …] (ends the stream) ·
     ``e`` failure {code, sentence, detail} (ends it) · ``r`` result (ends it): zstd of msgpack {exit_code, stdout,
     stderr, outputs: [{path, mode, data}], undeclared, figures}.
     Errors that are known before the job is judged are an HTTP status with a JSON error: 401 unauthorized,
     404 unknown_attempt, 409 attempt_running, 413 too_large, 429 too_many_requests.
     Errors have a JSON body ``{"code", "sentence"}`` everywhere.
"""
