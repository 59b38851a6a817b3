"""The composition root: options in, working parts out. Everything is imported late.

Commands ask here for a gateway, a source of credentials, a manifest, or a rotation's
dependencies; nothing else in ``cli`` knows how those are made.
"""
