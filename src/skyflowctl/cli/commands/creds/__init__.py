"""``skyflowctl creds``: a token from the server, or without one."""
