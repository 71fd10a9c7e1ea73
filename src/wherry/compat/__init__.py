"""Faces of other frameworks: their names and signatures over this one's agents."""
