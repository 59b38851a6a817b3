"""References to secrets, one file per scheme."""
