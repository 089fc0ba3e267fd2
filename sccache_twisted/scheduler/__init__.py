"""The scheduler: who is there, who wants a slot, who gets which.

``core`` is its mind and knows neither Twisted nor a clock; ``clients`` and ``workers`` are the facts it hears,
``effects`` what it wants done, ``placing`` the desk where slots are given out over the books in ``registry``, ``table``
and ``alarms``. ``door`` admits links, ``allocation`` asks workers, ``service`` owns links and timers and performs the
effects, ``metrics`` counts them.
"""
