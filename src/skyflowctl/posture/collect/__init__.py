"""What a posture check asks the server; every answer becomes a frozen fact."""
