"""Export of the chosen settings as a script, notebook or configuration file, and of tables as CSV and Parquet."""

from rankviz.export.code.script import script
from rankviz.export.defaults import LEARNING_RATE
from rankviz.export.formats import FORMATS, Written, write
from rankviz.export.recipe import Recipe, recipe

__all__ = ["FORMATS", "LEARNING_RATE", "Recipe", "Written", "recipe", "script", "write"]
