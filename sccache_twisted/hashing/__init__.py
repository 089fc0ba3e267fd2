"""Digests of content, and what is keyed by them.

Nothing here knows Twisted, a network or a clock: bytes and facts come in, digests go out.
"""
