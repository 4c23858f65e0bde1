"""How the shipped model was trained; not part of the installed package."""
