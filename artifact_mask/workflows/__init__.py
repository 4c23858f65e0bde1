"""One module a verb; each is one command of artmask."""
