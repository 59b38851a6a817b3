"""Renders the report as one page that loads nothing and sends nothing: ``page.render``."""
