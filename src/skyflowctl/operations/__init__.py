"""One module per verb: inputs and ports in, a frozen result out. Nothing is printed here."""
