"""A mount loses every credential at once, and what that reached is verified."""
