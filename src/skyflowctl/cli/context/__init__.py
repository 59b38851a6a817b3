"""The composition root: makes working parts from options. All imports are late.

Commands get a gateway, a source of credentials, a manifest or a rotation's dependencies here; no
other part of ``cli`` knows how to make them.
"""
