"""The server of `stmn browse`: pages and pictures, only for a browser on this machine.

It listens only on the loopback address. It refuses requests that name another host (as other sites' pages would, by DNS
rebinding), and clips that another site's page sends. Pictures are found by the ids of the set's videos; no address
names a file.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from stmn.browse.clips import Clips
from stmn.browse.rows import Choice, Row
from stmn.errors import DataError, MissingExtra, StmnError
from stmn.store.inspect.pictures import Pictures

try:
    import jinja2
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtra("browse", error.name or "starlette", "browse") from error

#: the loopback address
HOST = "127.0.0.1"
#: the host names that requests may have
_NAMES = ("127.0.0.1", "localhost")
#: the largest clip, bytes
_LARGEST = 512 * 2**20
#: videos per page
_PAGE = 48
#: nothing is loaded from elsewhere, and only the page's own scripts run
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; media-src 'self' blob:"


@dataclass(frozen=True)
class Site:
    """The contents of the pages.

    Attributes:
        title: the name of the set or model.
        facts: a line about it.
        rows: the videos of the set; empty without a set.
        pictures: their pictures.
        tested: the name of the test that the rows' predictions are from; empty without one.
        clips: classifies clips, if there is a model.
        model: the model's name.
    """

    title: str
    facts: str
    rows: list[Row]
    pictures: Pictures | None = None
    tested: str = ""
    clips: Clips | None = None
    model: str = ""


def serve(site: Site, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        site: the contents of the pages.
        port: the port; 0 for any that is free.
        ready: called with the address once it can be opened.

    Raises:
        StmnError: the port is taken.
    """
    config = uvicorn.Config(make_app(site), host=HOST, port=port, log_level="warning", lifespan="off")
    try:
        socket = config.bind_socket()
    except SystemExit as error:  # uvicorn raises it if the port is taken
        raise StmnError(f"browse: port {port} is taken; choose another with --port, or 0 for any") from error
    socket.listen(config.backlog)  # from now on a browser waits for the server instead of being refused
    ready(f"http://{HOST}:{socket.getsockname()[1]}/")
    uvicorn.Server(config).run(sockets=[socket])


def make_app(site: Site) -> Starlette:
    """The pages as an ASGI application."""
    pages = _Pages(site)
    return Starlette(
        routes=[
            Route("/", pages.list_videos),
            Route("/video", pages.show_video),
            Route("/frame", pages.frame),
            Route("/flow", pages.flow),
            Route("/try", pages.try_model),
            Route("/classify", pages.classify, methods=["POST"]),
            Route("/overlay/{name}", pages.overlay),
            Route("/static/{name}", pages.static),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(_NAMES)),
            Middleware(BaseHTTPMiddleware, dispatch=_add_headers),
        ],
        exception_handlers={DataError: _not_found},
    )


async def _add_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer, with headers that limit what a browser may do with the answer."""
    response = await answer(request)
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def _not_found(request: Request, error: Exception) -> Response:
    """Answer a request for something that doesn't exist."""
    return PlainTextResponse(str(error), status_code=404)


class _Pages:
    """Answers requests."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._by_id = {row.video.id: row for row in site.rows}
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("stmn.browse", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self._templates.filters["query"] = urlencode

    def _render(self, template: str, **values: Any) -> Response:
        """Fill in the template of a page."""
        return HTMLResponse(self._templates.get_template(template).render(site=self._site, **values))

    def list_videos(self, request: Request) -> Response:
        """List the videos that the query selects."""
        if not self._site.rows:
            return self.try_model(request)
        choice = Choice.read(request.query_params)
        rows = choice.apply(self._site.rows)
        pages = max(1, -(-len(rows) // _PAGE))
        page = min(max(1, _number(request, "page", 1)), pages)
        chosen = {
            "class": choice.class_name,
            "part": choice.part,
            "result": choice.result,
            "text": choice.text,
            "order": choice.order,
        }
        return self._render(
            "videos.html.jinja", choice=choice, chosen=chosen, found=len(rows), page=page, pages=pages,
            shown=rows[(page - 1) * _PAGE : page * _PAGE],
            classes=sorted({row.video.class_name for row in self._site.rows}),
            parts=sorted({row.part for row in self._site.rows if row.part}),
        )  # fmt: skip

    def show_video(self, request: Request) -> Response:
        """Show one video: its frames and flow over time, and its prediction."""
        return self._render("video.html.jinja", row=self._row(request))

    def _row(self, request: Request) -> Row:
        """The video that the query names. Raises `DataError` if the set has no such id."""
        name = request.query_params.get("id", "")
        row = self._by_id.get(name)
        if row is None:
            raise DataError(f"no video '{name}' in {self._site.title}")
        return row

    def frame(self, request: Request) -> Response:
        """Send a frame."""
        return self._picture(request, "frame", "image/jpeg")

    def flow(self, request: Request) -> Response:
        """Send a flow field in colour."""
        return self._picture(request, "flow", "image/png")

    def _picture(self, request: Request, kind: str, media_type: str) -> Response:
        """Send the picture of a video at the time that the query names."""
        row, pictures = self._row(request), self._site.pictures
        assert pictures is not None  # there are rows, so there are pictures
        content = getattr(pictures, kind)(row.video.id, _number(request, "t", -1))
        return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=3600"})

    def try_model(self, request: Request) -> Response:
        """Show the page to drop clips on."""
        if self._site.clips is None:
            return PlainTextResponse("no model was named: stmn browse --model MODEL", status_code=404)
        return self._render("try.html.jinja", classes=self._site.clips.model.classes)

    async def classify(self, request: Request) -> Response:
        """Classify the clip that is the body of the request."""
        clips = self._site.clips
        if clips is None or request.headers.get("origin") != str(request.base_url).rstrip("/"):
            return JSONResponse({"error": "clips are taken from this page alone"}, status_code=403)
        clip = clips.new_file()
        size = 0
        try:
            with open(clip, "wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > _LARGEST:
                        raise DataError(f"the clip is larger than {_LARGEST >> 20} MB; use stmn predict")
                    file.write(part)
            return JSONResponse(await run_in_threadpool(clips.classify, clip))
        except StmnError as error:
            return JSONResponse({"error": str(error)}, status_code=422)
        except OSError as error:
            return JSONResponse({"error": f"the clip can't be kept: {error.strerror or error}"}, status_code=507)
        except ClientDisconnect:  # the page was closed or reloaded
            return Response(status_code=400)
        finally:
            clip.unlink(missing_ok=True)

    def overlay(self, request: Request) -> Response:
        """Send the overlay of a clip."""
        path = self._site.clips.find_overlay(request.path_params["name"]) if self._site.clips else None
        return FileResponse(path, media_type="video/mp4") if path else Response(status_code=404)

    def static(self, request: Request) -> Response:
        """Send the pages' style sheet or script."""
        name = request.path_params["name"]
        types = {"style.css": "text/css", "player.js": "text/javascript", "try.js": "text/javascript"}
        if name not in types:
            return Response(status_code=404)
        content = resources.files("stmn.browse").joinpath("static", name).read_bytes()
        return Response(content, media_type=types[name])


def _number(request: Request, key: str, default: int) -> int:
    """A whole number in the query."""
    try:
        return int(request.query_params.get(key, default))
    except ValueError:
        return default
