"""A person's word on a dark reference that was held for review, as it lies beside the reference."""

from datetime import datetime

from pydantic import BaseModel

#: Object in the folder of the product, beside its manifest. It is written once, by a conditional put.
SIGN_OFF = "sign_off.json"


class SignOff(BaseModel):
    """Who accepted a held reference, when, and why.

    Attributes
    ----------
    product : str
        Key prefix of the reference.
    configuration, set_id : str
    by : str
        The person, as the machine knows them or as they gave it.
    time : datetime
        UTC.
    reason : str
        In their words.
    held_for : list of str
        The failures that it lifts, as the verdict has them.
    """

    product: str
    configuration: str
    set_id: str
    by: str
    time: datetime
    reason: str
    held_for: list[str] = []

    def __str__(self) -> str:
        return f"accepted by {self.by} on {self.time:%Y-%m-%d}: {self.reason}"
