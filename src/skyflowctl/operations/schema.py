"""``schema``: the JSON Schema of the manifest, for editors and other tools."""

from skyflowctl.manifest.schema import schema_text


def published_schema() -> str:
    """Return the text of the published schema, as it is shipped."""
    return schema_text()
