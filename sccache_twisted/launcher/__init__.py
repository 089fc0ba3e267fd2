"""The launcher: hands one command line to the daemon, and shows the answer.

Knows the launcher's frames, where the daemon's socket and the local slots lie, and how to start a daemon.
Refuses to know anything else of the house: standard library only, and of that only what starts in a
millisecond. Whatever fails here ends in running the compiler itself: a build never breaks because of us.
"""
