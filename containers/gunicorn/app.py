"""One page for every request, see PEP 3333."""


def page(environ, start_response):
    """Say which program answers, and that it saw the request."""
    body = f"{environ['SERVER_SOFTWARE']} answers {environ['PATH_INFO']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
