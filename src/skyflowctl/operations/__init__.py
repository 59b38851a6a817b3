"""One module per verb: takes inputs and ports, returns a frozen result. Prints nothing."""
