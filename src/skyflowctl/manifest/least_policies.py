"""The least policies that are shipped: of the people and programs that work with the mounts."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel beside the code; in an editable install at the repository's root.
_PLACES = (_PACKAGE / "policies", _PACKAGE.parents[1] / "docs" / "policies")
_NAMES = ("operator", "rotator", "auditor", "application")


def least_policies() -> dict[str, str]:
    """Return the texts of the least policies, of docs/policies, by name."""
    folder = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
    return {name: (folder / f"{name}.hcl").read_text(encoding="utf-8") for name in _NAMES}
