"""Export of the chosen settings as a script, notebook or configuration file, and of tables as CSV and Parquet."""

from rankviz.export.formats import FORMATS, Written, write
from rankviz.export.recipe import LEARNING_RATE, Recipe, recipe
from rankviz.export.script import script

__all__ = ["FORMATS", "LEARNING_RATE", "Recipe", "Written", "recipe", "script", "write"]
