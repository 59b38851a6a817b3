"""A real server, our engine and a Skyflow emulator on this machine, supervised."""
