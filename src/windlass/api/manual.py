"""The API's own pages at /docs. Their scripts come from here, so a browser needs no other site."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

#: what the page loads, and of which kind each is
ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
_CACHED = {"Cache-Control": "max-age=3600"}


@router.get("/docs")
async def manual() -> Response:
    """The page. What it names is relative, so that it also works behind a path of a proxy."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Windlass API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},
    )


@router.get("/docs/{asset}")
def asset(asset: str) -> Response:
    """A part of the page, as the package `fastapi-offline` carries it."""
    if asset not in ASSETS:
        raise HTTPException(404, f"no page {asset[:80]!r}")
    content = files("fastapi_offline").joinpath("static", asset).read_bytes()
    return Response(content, 200, _CACHED, ASSETS[asset])
