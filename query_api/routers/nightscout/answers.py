"""What the site answers, for the API's description: the fields that Nightscout's clients look for.

The routes answer with bytes of their own making; that these are so described is checked by the tests alone.
"""

# ruff: noqa: N815 - the names are Nightscout's

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class SiteDocument(BaseModel):
    """A document as it was sent, with its id."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(alias="_id")


class SiteEntry(BaseModel):
    """A reading of a sensor."""

    id: str = Field(alias="_id")
    type: Literal["sgv"]
    sgv: float = Field(description="mg/dL.")
    date: int = Field(description="Milliseconds since 1970.")
    dateString: str
    sysTime: str
    utcOffset: int = Field(description="Minutes.")
    direction: str
    delta: float = Field(description="mg/dL in five minutes; 0 where no reading before is near enough to tell.")
    device: str | None = None
    noise: int | None = None


class SiteDeviceStatus(BaseModel):
    """The present forecast, in one of the two forms."""

    id: str = Field(alias="_id")
    device: str
    created_at: str
    mills: int
    utcOffset: int
    openaps: dict[str, Any] | None = None
    loop: dict[str, Any] | None = None


class SiteDeleted(BaseModel):
    acknowledged: bool
    deletedCount: int


class SiteUpload(BaseModel):
    status: str


class SiteAllowed(BaseModel):
    """What a key allows."""

    canRead: bool
    canWrite: bool
    isAdmin: bool
    message: str
    rolefound: str
    permissions: str


class SiteVerified(BaseModel):
    status: int
    message: SiteAllowed


class SiteToken(BaseModel):
    """A web token."""

    token: str
    sub: str
    permissionGroups: list[list[str]]
    iat: int
    exp: int


class SiteSettings(BaseModel):
    units: str
    authDefaultRoles: str
    thresholds: dict[str, float]
    enable: list[str]
    showForecast: str


class SiteStatus(BaseModel):
    """What the site is."""

    status: str
    name: str
    version: str
    serverTime: str
    serverTimeEpoch: int
    apiEnabled: bool
    careportalEnabled: bool
    settings: SiteSettings
    extendedSettings: dict[str, Any]
    authorized: SiteToken | None


class SiteMoment(BaseModel):
    now: int = Field(description="Milliseconds since 1970.")


class SiteGlucose(BaseModel):
    """A reading for a watch."""

    sgv: str
    trend: int
    direction: str
    datetime: int
    bgdelta: float


class SitePebble(BaseModel):
    status: list[SiteMoment]
    bgs: list[SiteGlucose]
    cals: list[float]


class SiteProperties(BaseModel):
    """Those that were asked for."""

    bgnow: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    upbat: dict[str, Any] | None = None
    iob: dict[str, Any] | None = None
    cob: dict[str, Any] | None = None


class SiteStorage(BaseModel):
    storage: str
    version: str


class SiteVersion(BaseModel):
    version: str
    apiVersion: str
    srvDate: int
    storage: SiteStorage
    apiPermissions: dict[str, str] | None = Field(None, description="By collection; of the status alone.")


class SiteVersionFound(BaseModel):
    status: int
    result: SiteVersion


class SiteChanges(BaseModel):
    srvDate: int
    collections: dict[str, int] = Field(description="When each changed last, in milliseconds since 1970.")


class SiteChangesFound(BaseModel):
    status: int
    result: SiteChanges


class SiteFound(BaseModel):
    """Documents of a collection."""

    status: int
    result: list[dict[str, Any]]


class SiteDone(BaseModel):
    """What was asked for was done."""

    status: int


class SiteTaken(BaseModel):
    """What became of a document."""

    status: int
    identifier: str
    lastModified: int
    isDeduplication: bool | None = None
