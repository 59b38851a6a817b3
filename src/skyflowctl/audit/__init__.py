"""What the server's audit log says: who asked for which token, and is this place in order."""
