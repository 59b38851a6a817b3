"""Renders the report as one page that loads nothing and sends nothing: ``page.render``."""

OPENING = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="generator" content="skyflowctl audit report">\n'
)
"""The start of every page; it distinguishes an earlier report from any other file."""
