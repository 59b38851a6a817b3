"""Skyflow's side: service accounts, minting, the token service and its emulator."""
