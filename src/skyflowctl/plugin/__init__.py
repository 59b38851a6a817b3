"""The go-plugin host that a server runs, and the launcher that starts it. Only here: gRPC."""
