"""Scores of objects and classes; functions of arrays and of tables of label pairs."""
