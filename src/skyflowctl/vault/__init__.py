"""The server's side: the gateway, its transports, logging in. Only here: hvac."""
