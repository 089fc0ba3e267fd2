"""Hit servers: processes beside the daemon that answer hits, while answering them is more than it can do alone.

1. ``limit`` judges whether the daemon is what its callers wait for;
2. ``servers`` are the daemon's side: it starts hit servers, hears what they did, takes over what is not theirs, watches
   and ends them;
3. ``process`` is one of them: takes a caller, answers a hit, hands everything else over; it asks
4. ``answering``, which goes the same way to a hit as the daemon, and never further.
"""
