"""Links that reconnect and say Hello, connections chosen by server_id, transfers that notice silence, processes.

Knows sockets, TLS and timers. Refuses to know: what is said on a link, and who runs which job.
"""
