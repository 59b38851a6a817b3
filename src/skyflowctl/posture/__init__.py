"""Is this place in order? Pure checks: frozen facts about a server in, graded findings out."""
