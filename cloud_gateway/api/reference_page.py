"""/docs: the OpenAPI document as one plain page, without scripts or external resources; every text is
escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from cloud_gateway.api.common import PREFIX

Json = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; --line: #c8ccd0; --soft: #f2f4f6; --link: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --line: #454a50; --soft: #23272b; --link: #a8c7fa; } }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { border-bottom: 2px solid var(--line); margin-top: 3rem; }
h3 { margin: 2.5rem 0 .3rem; overflow-wrap: anywhere; } h3 code { font-size: 1.1rem; font-weight: bold; }
a { color: var(--link); }
nav h2 { border: 0; font-size: 1rem; margin: 1rem 0 0; }
nav ul { columns: 25rem; list-style: none; margin: 0; padding: 0; }
nav li { break-inside: avoid; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .5rem 0; width: 100%; }
caption { font-weight: bold; padding: .4rem 0; text-align: left; }
th, td { border-bottom: 1px solid var(--line); overflow-wrap: anywhere; padding: .3rem .6rem;
  text-align: left; vertical-align: top; }
thead th { background: var(--soft); white-space: nowrap; }
tbody th { font-weight: normal; }
code, pre { font: .9rem ui-monospace, monospace; }
pre { background: var(--soft); overflow-x: auto; padding: .8rem; }
@media (max-width: 40rem) {
  thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; width: 1px; }
  tr, tbody th, tbody td { border: 0; display: block; padding: .1rem 0; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
}
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_PREFIX = "#/components/schemas/"
_DEPTH_MAX = 6


def render(document: Json) -> str:
    """Renders the page of an OpenAPI 3.1 document whose fields have descriptions and examples."""
    page = ReferencePage(document)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document['info']['title'])}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{page.head()}\n<main>\n{page.groups()}\n{page.schemas()}\n</main>\n</body>\n</html>\n"
    )


class ReferencePage:
    """The parts of the page; an operation is (method, path, its object)."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._schemas: Json = document["components"]["schemas"]
        self._server: str = document["servers"][0]["url"]
        calls = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        calls += [("WEBHOOK", kind, methods["post"]) for kind, methods in document["webhooks"].items()]
        self._groups = [
            (tag["name"], tag["description"], [call for call in calls if tag["name"] in call[2]["tags"]])
            for tag in document["tags"]
        ]

    def head(self) -> str:
        """Title, server, and links to everything."""
        info = self._document["info"]
        links = "".join(
            f"<h2>{escape(name)}</h2>\n<ul>{''.join(_link(*call) for call in calls)}</ul>\n"
            for name, _, calls in self._groups
            if calls
        )
        return (
            f"<header>\n<h1>{escape(info['title'])}, version {escape(info['version'])}</h1>\n"
            f"<p>{_text(info['description'])}</p>\n<p>Server: <code>{escape(self._server)}</code>. "
            f"The calls about reservations and machines are below <code>{escape(PREFIX)}</code>. "
            'For programs: <a href="/openapi.json">openapi.json</a>.</p>\n'
            f'<nav aria-label="Contents">\n{links}</nav>\n</header>'
        )

    def groups(self) -> str:
        """Every operation, group by group."""
        return "\n".join(
            f"<section>\n<h2>{escape(name)}</h2>\n<p>{_text(text)}</p>\n"
            + "\n".join(self._operation(*call) for call in calls)
            + "\n</section>"
            for name, text, calls in self._groups
            if calls
        )

    def schemas(self) -> str:
        """Every schema with its fields."""
        parts = [
            f'<h3 id="{escape(name)}">{escape(name)}</h3>\n<p>{_text(schema.get("description", ""))}</p>\n'
            + (self._fields(schema, "Fields") if "properties" in schema else _values(schema))
            for name, schema in sorted(self._schemas.items())
        ]
        return "<section>\n<h2>Schemas</h2>\n" + "\n".join(parts) + "\n</section>"

    def _operation(self, method: str, path: str, operation: Json) -> str:
        text = operation.get("description") or operation.get("summary", "")
        parts = [
            f'<h3 id="{escape(_anchor(method, path))}"><code>{escape(method)} {escape(path)}</code></h3>',
            f"<p>{_text(text)}</p>",
            self._parameters(operation.get("parameters", [])),
        ]
        body = _json_schema(operation.get("requestBody"))
        if body is not None and (inner := self._resolved(body)).get("properties"):
            parts.append(self._fields(inner, "Body"))
            parts.append(f"<p>Example:</p>\n<pre>{escape(self._sample(method, path, body))}</pre>")
        parts.append(self._responses(operation["responses"]))
        return "\n".join(part for part in parts if part)

    def _sample(self, method: str, path: str, body: Json) -> str:
        shown = json.dumps(self.example(body), indent=2, ensure_ascii=False)
        if method == "WEBHOOK":
            return shown
        return (
            f"curl -X {method} {self._server}{path} \\\n  -H 'X-API-Key: YOUR-KEY' \\\n"
            f"  -H 'Content-Type: application/json' \\\n  -d '{shown}'"
        )

    def _parameters(self, parameters: list[Json]) -> str:
        rows = [
            (
                f"<code>{escape(parameter['name'])}</code>",
                f"{parameter['in']}{', required' if parameter.get('required') else ''}",
                _text(parameter.get("description", "")),
            )
            for parameter in parameters
        ]
        return _table("Parameters", ("Name", "Where", "Meaning"), rows)

    def _fields(self, schema: Json, caption: str) -> str:
        needed = schema.get("required", [])
        rows = []
        for name, kind in schema["properties"].items():
            example = kind.get("examples", [None])[0]
            shown = (
                "" if example is None else f"<code>{escape(json.dumps(example, ensure_ascii=False))}</code>"
            )
            row = (
                f"<code>{escape(name)}</code>",
                self._kind(kind) + (", required" if name in needed else ""),
                _text(kind.get("description", "")),
                shown,
            )
            rows.append(row)
        return _table(caption, ("Field", "Type", "Meaning", "Example"), rows)

    def _responses(self, responses: Json) -> str:
        rows = []
        for status, response in responses.items():
            schema = _json_schema(response)
            kind = "" if schema is None else self._kind(schema)
            rows.append((f"<code>{escape(status)}</code>", _text(response.get("description", "")), kind))
        return _table("Responses", ("Status", "Meaning", "Body"), rows)

    def _kind(self, kind: Json) -> str:
        if "$ref" in kind:
            name = kind["$ref"].removeprefix(_PREFIX)
            return f'<a href="#{escape(name)}">{escape(name)}</a>'
        if "anyOf" in kind:
            return " or ".join(self._kind(one) for one in kind["anyOf"])
        if kind.get("type") == "array":
            return f"array of {self._kind(kind['items'])}"
        if "const" in kind:
            return f"<code>{escape(json.dumps(kind['const']))}</code>"
        return escape(kind.get("type", "object")) + _bounds(kind)

    def _resolved(self, kind: Json) -> Json:
        name = kind.get("$ref", "").removeprefix(_PREFIX)
        found: Json = self._schemas[name] if name else kind
        return found

    def example(self, kind: Json, depth: int = 0) -> Any:
        """An example of a value, made from the examples of its fields."""
        if kind.get("examples"):
            return kind["examples"][0]
        if "const" in kind:
            return kind["const"]
        real = [one for one in kind.get("anyOf", []) if one != {"type": "null"}]
        if real and "properties" not in kind:
            return self.example(real[0], depth)
        inner = self._resolved(kind)
        if depth < _DEPTH_MAX and "properties" in inner:
            return {name: self.example(one, depth + 1) for name, one in inner["properties"].items()}
        if "enum" in inner:
            return inner["enum"][0]
        return [self.example(inner["items"], depth + 1)] if inner.get("type") == "array" else {}


def _json_schema(carrier: Json | None) -> Json | None:
    found: Json | None = ((carrier or {}).get("content", {}).get("application/json") or {}).get("schema")
    return found


def _anchor(method: str, path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{method} {path}".lower()).strip("-")


def _link(method: str, path: str, _operation: Json) -> str:
    shown = f"{method} {path.removeprefix(PREFIX)}"
    return f'<li><a href="#{_anchor(method, path)}"><code>{escape(shown)}</code></a></li>'


def _text(text: str) -> str:
    """Escapes a text; what stands between backticks becomes `<code>`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _bounds(kind: Json) -> str:
    low, high = kind.get("minimum"), kind.get("maximum")
    if low is not None and high is not None:
        return f" {low} to {high}"
    longest = kind.get("maxLength")
    return f", at most {longest} characters" if longest is not None else ""


def _values(schema: Json) -> str:
    return "<p>" + " · ".join(f"<code>{escape(str(v))}</code>" for v in schema.get("enum", [])) + "</p>"


def _table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table whose cells are HTML already; empty without rows."""
    if not rows:
        return ""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f"<table>\n<caption>{caption}</caption>\n<thead><tr>{titles}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )
