"""The go-plugin host that a server runs, and its launcher. Only here: gRPC."""
