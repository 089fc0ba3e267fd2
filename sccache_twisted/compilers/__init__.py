"""What a compiler's command line means, and what compilers say.

Nothing here waits, runs a program, opens a file or knows Twisted: arguments, environments and bytes
that somebody else has read come in, values go out. Where the meaning of an option was not written
down anywhere it was measured (gcc 12.2, clang 14); the tests run the real compilers again.

* ``options``, ``common_options``, ``gcc_options``, ``clang_options``: the tables, one row an option
* ``commandline``: a command line becomes a ``Compilation`` or a reason; ``response``, ``languages``,
  ``facts``, ``effects``, ``passed``, ``outputs`` and ``hidden`` are its parts
* ``depfile``, ``scan``, ``searchpath``: which files a compilation reads
* ``identify``: which compiler is this?
* ``native``: the driver's own steps, for ``-march=native``
* ``colour``, ``environment``: what else of the caller's world shows in the result
* ``reasons``: every word for why something did not run on a worker
"""
