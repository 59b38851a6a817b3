"""Access to the server: the gateway, its transports, login. Only this package uses hvac."""
