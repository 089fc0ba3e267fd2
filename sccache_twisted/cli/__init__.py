"""The commands: everything that ``sccache-twisted`` does when its first word is no compiler.

Knows files, processes and the daemon's socket, and prints for people. Refuses to decide anything about jobs. A command
is a function from parsed arguments to an exit status; a problem is an error of :mod:`sccache_twisted.errors`, whose
sentence is printed by ``__main__`` and nowhere else. Modules are imported by the command that needs them, since most
commands must answer at once.
"""
