"""What the search gateway is asked and what it answers: the types behind its OpenAPI page."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from taoemb.limits import (
    ANSWERS,
    EVENT_ID_CHARACTERS,
    EVENT_VALUE,
    ID,
    ID_BYTES,
    QUERY_CHARACTERS,
    UNIT_CHARACTERS,
    id_problem,
)
from taoemb.serving.gateway.filters import Bound, Brands, Categories, Filters, Range
from taoemb.serving.traffic import ArmName, Design


def _as_in_catalogues(item_id: str) -> str:
    problem = id_problem(item_id)
    if problem is not None:
        raise ValueError(f"the id {problem}")
    return item_id


# PostgreSQL keeps no NUL in a text.
Query = Annotated[str, StringConstraints(min_length=1, max_length=QUERY_CHARACTERS, pattern=r"^[^\x00]*$")]
Unit = Annotated[str, StringConstraints(min_length=1, max_length=UNIT_CHARACTERS, pattern=f"^{ID.pattern}$")]
ItemId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=ID_BYTES, pattern=f"^{ID.pattern}$"),
    AfterValidator(_as_in_catalogues),
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=EVENT_ID_CHARACTERS, pattern=r"^[A-Za-z0-9._:-]+$")]
K = Annotated[int, Field(ge=1, le=ANSWERS)]
EventType = Literal["impression", "click", "add_to_cart", "purchase"]
MAX_EVENTS = 1000


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    query: Query
    user: Unit | None = Field(None, description="Who searches; decides the arm.")
    session: Unit | None = Field(None, description="Decides the arm when there is no user.")
    k: K | None = Field(None, description="Items in the page; default: gateway.k.")
    arm: ArmName | None = Field(None, description="For testers: the arm that answers. Such a page is not measured.")

    @field_validator("query")
    @classmethod
    def _has_words(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("the query is blank")
        return query


class SearchBody(_Asked):
    """A search."""

    filters: Filters = Filters()


class SearchParameters(_Asked):
    """A search as query parameters; signals can be filtered by POST only."""

    brand: Brands | None = None
    category: Categories | None = None
    price_min: Bound | None = None
    price_max: Bound | None = None

    def body(self) -> SearchBody:
        """The same as a body."""
        price = Range(min=self.price_min, max=self.price_max)
        return SearchBody(
            query=self.query,
            user=self.user,
            session=self.session,
            k=self.k,
            arm=self.arm,
            filters=Filters(brand=self.brand, category=self.category, price=price),
        )


class Item(BaseModel):
    """One answer."""

    item_id: str
    score: float
    title: str | None
    brand: str | None
    category: str | None
    price: float | None


class ToldItem(Item):
    """One answer, for testers."""

    team: ArmName | None = Field(description="On an interleaved page: the arm that picked it.")


class Source(BaseModel):
    """A release that a page was made from: the digest in its encoder's reply, and what was searched with it."""

    arm: ArmName
    release: str
    collection: str


class Timings(BaseModel):
    """Milliseconds inside the gateway."""

    total_ms: float
    encoder_ms: float
    search_ms: float


class Page(BaseModel):
    """The answer of a search. It does not say which arm or release it is from: shoppers are not to know."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(description="Name it in events; they are taken for it only.")
    unit: str = Field(description="User, else session, else an id made here: send it as `session` next time.")
    items: list[Item]
    timings: Timings


class ToldPage(BaseModel):
    """The answer of a search for whoever sends the testers' token."""

    request_id: str
    unit: str
    rollout: str = Field(description="Empty when none runs.")
    assigned: ArmName = Field(description="The arm of this unit.")
    served: Literal["control", "candidate", "interleaved"] = Field(description="The arm that answered.")
    release: str = Field(description="Digest in the encoder's reply; empty on an interleaved page: see sources.")
    collection: str = Field(description="What was searched; empty on an interleaved page.")
    sources: list[Source]
    items: list[ToldItem]
    timings: Timings


class Event(BaseModel):
    """What a shopper did on a page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: EventType
    request_id: Id = Field(description="The page's, as the gateway said it.")
    item_id: ItemId | None = None
    position: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(None, description="Place on the page, from 1.")
    value: Annotated[float, Field(ge=0, le=EVENT_VALUE, allow_inf_nan=False)] | None = Field(
        None, description="E.g. the purchase's price."
    )
    event_id: Id | None = Field(None, description="The sender's; an event that is sent again with it counts once.")


class EventBatch(BaseModel):
    """Several events in one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)]


Events = Event | EventBatch | Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)]


class Accepted(BaseModel):
    """Events were taken; they are written soon."""

    accepted: int
    refused: int = Field(description="Events on pages that no gateway here served, or too long ago.")


class ArmView(BaseModel):
    """An arm that is obeyed now."""

    release: str
    urls: list[str]


class TrafficView(BaseModel):
    """The traffic that is obeyed now."""

    source: str
    read_at: float = Field(description="Unix seconds of the last successful look.")
    problem: str = Field(description="Why the last look failed; empty when it did not.")
    rollout: str
    design: Design
    percent: float
    salt: str
    control: ArmView
    candidate: ArmView | None


class Health(BaseModel):
    """State of this process."""

    status: str


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str
