"""A distributed compiler and compile cache whose workers may come and go.

The house has floors, the ground first; a room imports only from floors below its own:

1. ``model``, ``errors``, ``config``: values, the failure table, the table of configuration keys
2. ``compilers``, ``hashing``, ``policy``: pure decisions
3. ``interfaces``: what the parts promise one another
4. ``wire``, ``security``, ``logs``: the conversations, the identities, the event vocabulary
5. ``net``, ``storage``, ``toolchains``: links, stores, compilers as archives
6. ``client``, ``scheduler``, ``worker``: the three roles, which do not know one another
7. ``web``, ``cli``, ``plugins``: pages, commands, and the composition roots

``launcher`` stands apart: it knows the standard library only.
"""

__version__ = "0.1.0"
