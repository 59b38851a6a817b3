"""HTTP/2 (RFC 9113) and gRPC over it, for the one peer that a plugin has: the server."""
