"""The token service over HTTPS: connections, proxies, and what an answer means."""
