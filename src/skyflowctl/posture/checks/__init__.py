"""The checks of ``audit posture``, one module for each part of an installation."""
