"""Runs axe over every page of the console, in both themes, wide and narrow, with its dialogs open.

axe.py PROGRAM AXE: starts PROGRAM, the node, with a catalog of its own, and injects the script AXE.
"""

import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

PROGRAM, AXE = sys.argv[1], pathlib.Path(sys.argv[2]).read_text()
TOKEN = "a-token-for-the-console"
CATALOG = """
version: 1
apis: [{ id: shop, stages: [{ name: prod, throttle: { rate: 9/s, burst: 50 }, methods: { "GET /pets": { throttle: { rate: 5/s, burst: 9 } } } }] }]
plans: [{ id: basic, throttle: { rate: 1/h, burst: 5 }, quota: { limit: 100, period: day }, api_stages: [{ api: shop, stage: prod }] }]
keys: [{ id: alice, value: the-value-of-alice, plans: [basic] }]
policies: [{ name: login, key_type: ip, throttle: { rate: 1/h, burst: 2 } }]
"""
# Each page, and the button that opens a dialog on it.
PAGES = [
    ("overview", None),
    ("keys", "Create an API key"),
    ("keys/KEY", "Override"),
    ("keys/KEY", "Rotate"),
    ("keys/KEY", "Delete"),
    ("keys/alice", "Explain"),
    ("keys/none", None),
    ("plans", "Create a plan"),
    ("plans/basic", None),
    ("stages/shop/prod", None),
    ("policies", None),
    ("policies/login?key=203.0.113.7", "Unblock"),
    ("tail", None),
    ("audit", None),
    ("webhooks", None),
]


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def send(port, path, body, headers=None, method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, None if body is None else json.dumps(body), headers or {})
    answer = connection.getresponse().read()
    connection.close()
    return json.loads(answer)


def start(folder):
    """Starts a node; returns it with the ports of checks and of the admin API."""
    catalog = pathlib.Path(folder, "catalog.yaml")
    catalog.write_text(CATALOG)
    checks, admin = free_port(), free_port()
    settings = {
        "TOLLGATE_LISTEN": f"127.0.0.1:{checks}",
        "TOLLGATE_LISTEN_ADMIN": f"127.0.0.1:{admin}",
        "TOLLGATE_ADMIN_TOKEN": TOKEN,
        "TOLLGATE_CATALOG": str(catalog),
        "TOLLGATE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/",
        "TOLLGATE_WEBHOOK_SECRET": "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    }
    log = open(pathlib.Path(folder, "log"), "w")
    node = subprocess.Popen([PROGRAM, "serve"], env={**os.environ, **settings}, stdout=log, stderr=log)
    for _ in range(200):
        try:
            send(admin, "/explain", {}, {"authorization": f"Bearer {TOKEN}"})
            return node, checks, admin
        except OSError:
            time.sleep(0.05)
    sys.exit("the node does not start: " + pathlib.Path(folder, "log").read_text())


def wait_for_activity(admin, bearer):
    """Waits until the checks are in a slot of the node's activity, each of which has five seconds."""
    for _ in range(600):
        if send(admin, "/nodes", None, bearer, "GET")["item"][0]["minute"]["plans"]:
            return
        time.sleep(0.1)
    sys.exit("the node reports no checks")


def violations(page):
    page.evaluate(AXE)
    found = page.evaluate("async () => (await axe.run()).violations")
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def run(browser, admin, key):
    passed, faults = 0, []

    def judge(page, name):
        nonlocal passed
        found = violations(page)
        passed += not found
        faults.extend(f"{name}: {one}" for one in found)

    for theme in ["light", "dark"]:
        for width in [1280, 400]:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True)
            page.goto(f"http://127.0.0.1:{admin}/console/")
            page.get_by_label("Token").wait_for()
            judge(page, f"sign-in {theme} {width}")
            page.get_by_label("Token").fill(TOKEN)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Overview").wait_for()
            for path, button in PAGES:
                page.goto(f"http://127.0.0.1:{admin}/console/#/{path.replace('KEY', key)}")
                page.reload()
                page.locator("main h1").wait_for()
                page.wait_for_load_state("networkidle") if path != "tail" else page.get_by_text("Live from").wait_for()
                judge(page, f"{path} {theme} {width}")
                if button:
                    page.get_by_role("button", name=button, exact=True).first.click()
                    page.locator("dialog, [role=status].notice").first.wait_for()
                    judge(page, f"{path}, {button} {theme} {width}")
            page.close()
    return passed, faults


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        node, checks, admin = start(folder)
        try:
            bearer = {"authorization": f"Bearer {TOKEN}"}
            key = send(admin, "/apikeys", {"name": "Acme", "enabled": True}, bearer)["id"]
            send(admin, "/usageplans/basic/keys", {"keyId": key, "keyType": "API_KEY"}, bearer)
            for _ in range(9):
                send(checks, "/check", {"api_key": "the-value-of-alice", "api": "shop", "stage": "prod"})
                send(checks, "/check", {"policy": "login", "key": "203.0.113.7"})
            wait_for_activity(admin, bearer)
            chromium = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            passed, faults = run(browser, admin, key)
            browser.close()
        finally:
            node.terminate()
            node.wait()
    print("\n".join(faults))
    print(f"axe: {passed} passed, {len(faults)} failed")
    sys.exit(bool(faults))


main()
