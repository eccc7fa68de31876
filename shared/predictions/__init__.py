"""What was answered: the prediction log, and what became of it when labels land."""
