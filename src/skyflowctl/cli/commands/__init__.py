"""One file per command or group; each turns arguments into one operation's call."""
