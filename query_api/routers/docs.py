"""This API described: the OpenAPI document, and the page at ``/docs`` that shows it."""

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse

from query_api.access import access

router = APIRouter(include_in_schema=False)

_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; img-src 'self' data: https:; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; frame-ancestors 'none'"
)


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
@access("everybody")
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.api_route("/docs", methods=["GET", "HEAD"])
@access("everybody")
async def docs(request: Request) -> HTMLResponse:
    """Swagger's page, which loads its script from elsewhere and so has a policy of its own."""
    prefix = request.scope.get("root_path", "").rstrip("/")
    page = get_swagger_ui_html(openapi_url=f"{prefix}/openapi.json", title=f"{request.app.title} - Swagger UI")
    page.headers["content-security-policy"] = _PAGE_POLICY
    return page
