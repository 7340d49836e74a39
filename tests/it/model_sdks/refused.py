"""Real SDKs of model providers against refusals: `refused.py short|long GATEWAY`, where an earlier request has used
the budget. With `short` the wait is some seconds, and the SDK's own retry is admitted; with `long` it is an hour, and
the SDK gives up at once."""

import sys

import anthropic
import openai

WAIT, GATEWAY = sys.argv[1:]
attempts = []


def client(sdk, make, base_url):
    hooks = {"request": [lambda request: attempts.append(request.url)]}
    return make(api_key="demo-key", base_url=base_url, http_client=sdk.DefaultHttpxClient(event_hooks=hooks))


MESSAGES = [{"role": "user", "content": "Say something."}]
open_ai = client(openai, openai.OpenAI, f"http://{GATEWAY}/v1")
claude = client(anthropic, anthropic.Anthropic, f"http://{GATEWAY}")
requests = {
    openai: lambda: open_ai.chat.completions.with_raw_response.create(model="m", messages=MESSAGES),
    anthropic: lambda: claude.messages.with_raw_response.create(model="m", max_tokens=9, messages=MESSAGES),
}


def seen(sdk):
    """The status that the application sees at last, and how many requests the SDK has sent for it."""
    attempts.clear()
    try:
        status = requests[sdk]().status_code
    except sdk.RateLimitError as error:
        status = error.status_code
    return status, len(attempts)


for sdk in requests:
    if WAIT == "long":
        assert seen(sdk) == (429, 1), (sdk.__name__, seen(sdk))
        continue
    # A request that finds the budget refilled is admitted at its first attempt and uses it again.
    for _ in range(5):
        status, sent = seen(sdk)
        assert status == 200, (sdk.__name__, status)
        if sent == 2:
            break
    assert sent == 2, (sdk.__name__, sent)
