"""`landfall doctor`: what is wrong with an installation, and the cure of each finding."""
