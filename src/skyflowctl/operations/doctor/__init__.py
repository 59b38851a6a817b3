"""``doctor``: a diagnosis of this machine, the server and its engine."""
