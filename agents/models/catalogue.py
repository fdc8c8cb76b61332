"""Every forecaster that can be chosen: its name, and the function that loads it. Nothing is imported before the choice.

To add one: a file here with a function that takes a `Choice` and returns a `Forecaster`, and a line in both of these.
"""

from typing import Literal

Kind = Literal["network", "persistence", "ridge", "darts"]

LOADERS: dict[Kind, str] = {
    "network": "agents.models.network:load",
    "persistence": "agents.models.persistence:load",
    "ridge": "agents.models.ridge:load",
    "darts": "agents.models.darts_model:load",
}
"""``module:function`` of each."""
