"""A recipe that fits a folder of clips and this machine.

`choose` decides, `duration` estimates how long it takes, `text` writes it, and `fit` calls them in order.
"""

from stmn.recipe.fitting.fit import Fitted as Fitted
from stmn.recipe.fitting.fit import fit_recipe as fit_recipe
