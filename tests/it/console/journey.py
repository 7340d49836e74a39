"""Uses the console in Chromium as people do.

journey.py PART ADMIN CHECKS TOKEN READ_TOKEN: one part against a node whose admin listener is at ADMIN and
whose listener of checks is at CHECKS. Every part also fails if the page logs an error, runs a script of
another origin, or requests anything from elsewhere.
"""

import http.client
import json
import re
import shutil
import sys

from playwright.sync_api import expect, sync_playwright

PART, ADMIN, CHECKS, TOKEN, READ_TOKEN = sys.argv[1:]
CONSOLE = f"http://{ADMIN}/console/"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def check(body):
    """Sends a check, and returns the status of the response."""
    connection = http.client.HTTPConnection(CHECKS, timeout=10)
    connection.request("POST", "/check", json.dumps(body), {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def sign_in(page, token):
    page.goto(CONSOLE)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def open_page(page, name):
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def toast(page, text):
    expect(page.locator(".toast", has_text=text)).to_be_visible()


def create_plan_and_key(page):
    """Creates a plan with a burst of two and a key on it; returns the key's value."""
    open_page(page, "Plans and stages")
    page.get_by_role("button", name="Create a plan").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Trial")
    dialog.get_by_label("Rate").fill("1/h")
    dialog.get_by_label("Burst").fill("2")
    dialog.get_by_label("Period").select_option("DAY")
    dialog.get_by_label("Quota").fill("100")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", name="Trial", level=1)).to_be_visible()
    open_page(page, "API keys")
    page.get_by_role("button", name="Create an API key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Acme")
    expect(dialog.get_by_label("Plan").locator("option", has_text="Trial")).to_have_count(1)
    dialog.get_by_label("Plan").select_option("trial")
    dialog.get_by_role("button", name="Create", exact=True).click()
    value = page.get_by_label(re.compile("^Value of the API key")).input_value()
    assert len(value) == 40, value
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="Acme", level=1)).to_be_visible()
    # The value is in no later page, address or storage.
    page.reload()
    expect(page.get_by_role("heading", name="Acme", level=1)).to_be_visible()
    assert value not in page.content() and value not in page.url
    assert value not in page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    assert page.evaluate("document.cookie") == "", "scripts do not see the session"
    return value


def operate(page):
    sign_in(page, TOKEN)
    value = create_plan_and_key(page)
    expect(page.get_by_role("heading", name="On Trial")).to_be_visible()
    open_page(page, "Live tail")
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    assert [check({"api_key": value}) for _ in range(4)] == [200, 200, 429, 429]
    # The refused key: in the tail as it happens, and on the overview.
    row = page.get_by_role("row").filter(has_text="trial/throttle").first
    expect(row).to_contain_text("refused")
    open_page(page, "Overview")
    top = page.locator("section", has=page.get_by_role("heading", name="Refused most"))
    expect(top.get_by_role("row").filter(has_text="trial/throttle")).to_contain_text("Acme")
    expect(page.get_by_role("row").filter(has_text="trial").filter(has_text="50.0 %")).to_be_visible()
    # The reason: the limit, and its declaration.
    top.get_by_role("link", name="Acme").click()
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("would be refused by trial/throttle")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="/usageplans/trial").first
    expect(row).to_contain_text("fits in")
    # Unblock it, once and for good.
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Reset the counters").click()
    toast(page, "admitted again")
    assert [check({"api_key": value}) for _ in range(3)] == [200, 200, 429]
    preview(page)
    open_page(page, "API keys")
    page.get_by_role("link", name="Acme").click()
    page.get_by_role("button", name="Override").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Burst").fill("50")
    dialog.get_by_role("button", name="Save").click()
    toast(page, "own sizes")
    page.get_by_role("button", name="Explain").click()
    row = page.get_by_role("row").filter(has_text="trial/throttle").filter(has_text="override of the key")
    expect(row).to_contain_text("50 requests")
    page.get_by_role("button", name="Grant").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Amount").fill("900")
    dialog.get_by_role("button", name="Grant").click()
    toast(page, "900 requests are granted")
    # Of the plan's hundred two are used since the reset, and 900 more are granted.
    expect(page.locator(".stat", has_text="Left of the quota")).to_contain_text("998")
    rotate(page, value)
    policies(page)
    audit(page)


def rotate(page, value):
    page.get_by_role("button", name="Rotate").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Accept the old value for").select_option("0")
    dialog.get_by_role("button", name="Rotate").click()
    renewed = page.get_by_label(re.compile("^Value of the API key")).input_value()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    assert renewed != value and check({"api_key": renewed}) == 200 and check({"api_key": value}) == 403
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("button", name="Enable")).to_be_visible()
    assert check({"api_key": renewed}) == 403
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("button", name="Disable")).to_be_visible()
    assert check({"api_key": renewed}) == 200


def policies(page):
    address = {"policy": "login", "key": "203.0.113.7"}
    assert [check(address) for _ in range(3)] == [200, 200, 429]
    open_page(page, "Policies")
    page.get_by_role("link", name="login").click()
    page.get_by_role("link", name="203.0.113.7").click()
    expect(page.get_by_role("row").filter(has_text="policy:login/throttle").first).to_contain_text("refused for")
    page.get_by_role("button", name="Unblock").click()
    page.get_by_role("button", name="Empty the counters").click()
    toast(page, "admitted again")
    expect(page.get_by_role("row").filter(has_text="2 of 2")).to_contain_text("admitted")


def preview(page):
    open_page(page, "Plans and stages")
    page.get_by_role("link", name="Trial").click()
    expect(page.get_by_text("Change a size at the left")).to_be_visible()
    page.get_by_label("Burst").fill("1")
    expect(page.get_by_text("By the rate, 1 key would have been refused more often")).to_be_visible()
    page.get_by_label("Burst").fill("30")
    page.get_by_role("button", name="Save").click()
    toast(page, "The plan is changed")
    page.reload()
    expect(page.get_by_label("Burst")).to_have_value("30")


def recorded(plan):
    """The number of checks that the node has recorded."""
    connection = http.client.HTTPConnection(ADMIN, timeout=10)
    headers = {"authorization": f"Bearer {TOKEN}"}
    change = {"patchOperations": [{"op": "replace", "path": "/throttle/burstLimit", "value": "2"}]}
    connection.request("POST", f"/usageplans/{plan}/preview", json.dumps(change), headers)
    checks = json.loads(connection.getresponse().read())["checks"]
    connection.close()
    return checks


def preview_by_record(page):
    sign_in(page, TOKEN)
    value = create_plan_and_key(page)
    assert [check({"api_key": value}) for _ in range(4)] == [200, 200, 429, 429]
    while recorded("trial") < 4:
        page.wait_for_timeout(50)
    open_page(page, "Plans and stages")
    page.get_by_role("link", name="Trial").click()
    page.get_by_label("Burst").fill("1")
    expect(page.get_by_text("Of 4 recorded checks, 2 were refused and 3 would be: 1 more, 0 no longer.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="Acme").filter(has_text="trial/throttle")
    expect(row).to_contain_text(re.compile("throttle2\\s*3$"))
    page.get_by_label("Burst").fill("4")
    expect(page.get_by_text("Of 4 recorded checks, 2 were refused and 0 would be: 0 more, 2 no longer.")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    toast(page, "The plan is changed")
    assert [check({"api_key": value}) for _ in range(3)] == [200, 200, 429]


def audit(page):
    open_page(page, "Audit log")
    rows = page.get_by_role("row").filter(has_text="console:admin_token")
    for changed in ["/usageplans/trial", "/policies/login/keys/203.0.113.7", "/rotate"]:
        expect(rows.filter(has_text=changed).first).to_be_visible()
    page.get_by_label("Resources whose path begins with").fill("/policies")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody").get_by_role("row")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto(f"{CONSOLE}#/keys")
    expect(page.get_by_label("Token")).to_be_visible()


def read(page):
    page.goto(CONSOLE)
    page.get_by_label("Token").fill("a-wrong-token-of-none")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("not a credential")
    sign_in(page, READ_TOKEN)
    expect(page.get_by_text("read only")).to_be_visible()
    pages = ["API keys", "Plans and stages", "Policies", "Live tail", "Audit log", "Webhooks", "Overview"]
    for name in pages:
        open_page(page, name)
        expect(page.get_by_role("alert")).to_have_count(0)
    open_page(page, "API keys")
    expect(page.get_by_role("button", name="Create an API key")).to_be_disabled()
    page.goto(f"{CONSOLE}#/keys/filed")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("would be admitted now")).to_be_visible()
    expect(page.get_by_role("button", name="Reset")).to_be_disabled()


def expire(page):
    sign_in(page, TOKEN)
    open_page(page, "Plans and stages")
    page.get_by_role("button", name="Create a plan").click()
    dialog = page.get_by_role("dialog", name="Create a plan")
    dialog.get_by_label("Name").fill("Kept")
    page.context.clear_cookies()
    dialog.get_by_role("button", name="Create", exact=True).click()
    again = page.get_by_role("dialog", name="Your session has ended")
    again.get_by_label("Token").fill(TOKEN)
    again.get_by_role("button", name="Sign in", exact=True).click()
    # The request that met the end of the session was sent again.
    expect(page.get_by_role("heading", name="Kept", level=1)).to_be_visible()
    # A session that ends while a page refreshes itself is asked for once, and goes on.
    open_page(page, "Overview")
    page.context.clear_cookies()
    page.context.add_cookies([{"name": "tollgate_session", "value": "AAAA", "url": f"http://{ADMIN}"}])
    expect(again).to_be_visible()
    again.get_by_label("Token").fill(TOKEN)
    again.get_by_role("button", name="Sign in", exact=True).click()
    expect(again).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def html(page):
    sign_in(page, TOKEN)
    text = "<img src=x onerror=alert(1)>"
    while check({"api_key": "the-value-of-filed", "method": "GET", "path": f"/{text}"}) != 429:
        pass
    check({"policy": "login", "key": "203.0.113.8"})
    expect(page.get_by_role("link", name=text)).to_be_visible()
    for page_name in ["API keys", "Live tail", "Audit log"]:
        open_page(page, page_name)
    page.goto(f"{CONSOLE}#/keys/filed")
    expect(page.get_by_role("heading", name=text, level=1)).to_be_visible()
    for hostile in [text, "javascript:alert(1)", "../../etc/passwd", "%2e%2e%2f"]:
        page.goto(f"{CONSOLE}#/keys/{hostile}")
        page.goto(f"{CONSOLE}#/policies/login?key={hostile}")
    page.goto(f"{CONSOLE}#/keys")
    page.get_by_label("Search").fill("<img")
    expect(page.get_by_role("row").filter(has_text=text)).to_be_visible()
    assert page.locator("img[src='x']").count() == 0


def keyboard(page):
    page.set_viewport_size({"width": 400, "height": 800})
    sign_in(page, TOKEN)
    for path in ["overview", "keys", "keys/filed", "plans", "plans/basic", "policies", "policies/login", "tail", "audit", "webhooks"]:
        page.goto(f"{CONSOLE}#/{path}")
        expect(page.locator("main h1")).to_be_focused()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 400, f"{path} is {width} wide"
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{CONSOLE}#/keys")
    expect(page.locator("main h1")).to_be_focused()
    # From the heading on by Tab: the button, then the search.
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Create an API key")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", outline
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Create an API key")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("fil")
    page.get_by_role("link", name="onerror").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/keys/filed$"))
    page.keyboard.press("Shift+Tab")
    page.get_by_label("Theme").select_option("dark")
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def main():
    faults = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        # A machine that runs other tests beside this one may take its time.
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        # A refused request is part of some journeys, and Chromium logs each.
        expected = "Failed to load resource"
        page.on("console", lambda line: line.type == "error" and expected not in line.text and faults.append(line.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(f"http://{ADMIN}/") or faults.append(request.url))
        parts = {"operate": operate, "preview": preview_by_record, "read": read, "expire": expire, "html": html, "keyboard": keyboard}
        parts[PART](page)
        browser.close()
    if faults:
        sys.exit("\n".join(faults))


main()
