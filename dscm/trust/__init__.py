"""How far an answer is to be trusted: what validation images say is usual, and the checks of each answer."""
