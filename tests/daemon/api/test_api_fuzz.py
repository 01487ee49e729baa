"""The API against its own description: whatever is sent to any route, the answer is one of ours and never a crash."""

from __future__ import annotations

import json
from typing import Any

from api_site import ALICE, ApiSite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_api_hostile import ask
from test_api_jobs import submit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(max_size=12).map(lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass")))


def routes(site: ApiSite) -> list[tuple[str, str, list[str], list[str]]]:
    """(method, path, its parameters in the query, keys of its body)."""
    _, description = ask(site, "GET", "/v1/openapi.json")
    found = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            schema = description["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
            queries = [item["name"] for item in operation.get("parameters", []) if item["in"] == "query"]
            found.append((method.upper(), path, queries, list(schema.get("properties", {}))))
    return found


def test_no_route_crashes(shared_site: ApiSite) -> None:
    site = shared_site
    job = submit(site.client(ALICE))
    site.start(job)
    known = routes(site)
    assert len(known) >= 18

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        method, path, queries, keys = data.draw(st.sampled_from(known))
        for name in ("{job}", "{stream}", "{name}"):
            path = path.replace(name, data.draw(st.sampled_from([str(job), "stdout", "x"]) | TEXT))
        query = "&".join(f"{key}={data.draw(TEXT)}" for key in queries if key != "follow" and data.draw(st.booleans()))
        value: Any = data.draw(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(keys, JSON)))
        body = json.dumps(value).encode() if method == "POST" else b""
        target = f"{path}?{query}" if "wait" not in path else f"{path}?{query}&timeout_s=0"
        status, answer = ask(site, method, target, body, header="Content-Type: application/json\r\n")
        assert status < 500, (method, target, body, status, answer)
        if status >= 400:
            assert set(answer) == {"code", "message", "hint", "problems"}, answer

    attempt()
    assert site.client(ALICE).job(job).job == job
