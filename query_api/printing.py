"""HTML as PDF, by the Chromium that draws the pictures: in a tab of its own, which asks nobody for anything."""

import asyncio
import base64
import contextlib
from typing import Any

CLOSE_SECONDS = 2.0
_PAPER = {
    "printBackground": True,
    "preferCSSPageSize": True,
    "displayHeaderFooter": True,
    "headerTemplate": "<span></span>",
    "generateTaggedPDF": True,
}
_FOOT = (
    '<div style="width:100%;padding:0 12mm;font:7.5pt Arial,sans-serif;color:#5d6874;display:flex;'
    'justify-content:space-between"><span>{text}</span>'
    '<span><span class="pageNumber"></span> / <span class="totalPages"></span></span></div>'
)


async def printed(browser: Any, html: str, foot: str) -> bytes:
    """The document on the paper that its style sheet names; `foot` is HTML that stands below each page.

    Raises `RuntimeError` where Chromium refuses.
    """
    tab = await browser.create_tab("about:blank")
    try:
        tree = await _asked(tab, "Page.getFrameTree")
        frame = tree["frameTree"]["frame"]["id"]
        await _asked(tab, "Page.setDocumentContent", frameId=frame, html=html)
        answer = await _asked(tab, "Page.printToPDF", **_PAPER, footerTemplate=_FOOT.format(text=foot))
        return base64.b64decode(answer["data"])
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await browser.close_tab(tab.target_id)


async def _asked(tab: Any, command: str, **params: Any) -> dict[str, Any]:
    response: dict[str, Any] = await tab.send_command(command, params)
    if "error" in response:
        raise RuntimeError(f"Chromium refuses {command}")
    found: dict[str, Any] = response.get("result", {})
    return found
