"""How badly the embedded broker is to behave; what tests ask for, and a network does by itself."""

import random
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Faults:
    """Faults of a `shared.broker.memory.MemoryBroker`; none by default. May be changed while it runs.

    Attributes
    ----------
    lose_publishes, lose_confirms : int
        So many of the next publishes fail: lost before the broker had them, or accepted with only
        the confirm lost. The publisher cannot tell the two apart.
    lose_publish_chance, lose_confirm_chance : float
        The same, by chance, for each publish.
    duplicate_chance : float
        A message that enters a queue enters it twice.
    drop_chance : float
        At a poll, the consumer loses its connection: what it holds goes back, its tags are void.
    reorder : bool
        Any ready message may come next, not the oldest.
    confirm_seconds : float
        A confirm takes so long.
    seed : int
        Of the generator that all chances are drawn from.
    """

    lose_publishes: int = 0
    lose_confirms: int = 0
    lose_publish_chance: float = 0.0
    lose_confirm_chance: float = 0.0
    duplicate_chance: float = 0.0
    drop_chance: float = 0.0
    reorder: bool = False
    confirm_seconds: float = 0.0
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def of_publish(self) -> Literal["lost", "confirm lost"] | None:
        """Say what goes wrong with the publish at hand."""
        if self.lose_publishes > 0:
            self.lose_publishes -= 1
            return "lost"
        if self.lose_confirms > 0:
            self.lose_confirms -= 1
            return "confirm lost"
        if self._happens(self.lose_publish_chance):
            return "lost"
        return "confirm lost" if self._happens(self.lose_confirm_chance) else None

    def copies(self) -> int:
        """Say how many copies of a message enter a queue."""
        return 2 if self._happens(self.duplicate_chance) else 1

    def drops(self) -> bool:
        """Say whether a consumer loses its connection now."""
        return self._happens(self.drop_chance)

    def choose(self, ready: int) -> int:
        """Say which of `ready` messages comes next."""
        return self._random.randrange(ready) if self.reorder else 0

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance
