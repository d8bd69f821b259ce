"""Export of the chosen settings as a script, notebook or configuration file, and of tables as CSV and Parquet."""

from rankviz.exports.formats import FORMATS, Written, write
from rankviz.exports.recipe import LEARNING_RATE, Recipe, recipe
from rankviz.exports.script import script

__all__ = ["FORMATS", "LEARNING_RATE", "Recipe", "Written", "recipe", "script", "write"]
