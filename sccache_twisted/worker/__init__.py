"""The worker: slots, stores and a sandbox for other people's compilations.

1. ``slots`` decides who may run: leases as values, facts in, effects out;
2. ``server`` is the HTTPS side: toolchains and jobs come in, progress and results go out;
3. ``executor`` turns an action into a result: ``plan`` the world, build it (``jobroot``), run it
   (``bubblewrap``, ``limits``), collect what it wrote, take the world down again;
4. ``service`` registers with the schedulers, beats, drains and performs the slots' effects.
"""
