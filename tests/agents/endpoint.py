"""A model that plays a script instead of thinking.

Coding agents differ in the API that they speak to their model, not in what they do with its answers. This endpoint speaks three
of these APIs on loopback (OpenAI chat completions, OpenAI responses, Gemini) and answers each turn with the next step of a
scenario. It keeps no state between requests: an agent sends the whole conversation each time, so the number of tool results in it
says which step is next, and a retried request gets the same answer.
"""

import http.server
import json
import threading

# How the shell tools that agents offer want to be called.
SHELL_TOOLS = {
    "bash": lambda command: {"command": command},
    "exec_command": lambda command: {"cmd": command, "login": False, "yield_time_ms": 30000},
    "shell_command": lambda command: {"command": command},
    "shell": lambda command: {"command": ["bash", "-c", command]},
    "run_shell_command": lambda command: {"command": command, "description": "a step of the scenario"},
}
SUMMARY = "SCENARIO-COMPLETE"
CALL_PREFIX = "step-"


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def tool_call(step, offered, workspace):
    """The tool and arguments that perform `step` with the tools an agent offers, or None if it offers none that can."""
    shell = next((name for name in SHELL_TOOLS if name in offered), None)
    path = f"{workspace}/{step.get('path')}"
    if step["tool"] == "read" and "read_file" in offered:
        return "read_file", {"file_path": path}
    if step["tool"] == "edit" and "replace" in offered:
        arguments = {"file_path": path, "old_string": step["old"], "new_string": step["new"]}
        return "replace", arguments | {"instruction": "a step of the scenario"}
    if shell is None:
        return None
    if step["tool"] == "read":
        command = f"cat {step['path']}"
    elif step["tool"] == "edit" and shell == "exec_command":
        # The agent of this tool has an `apply_patch` of its own, which it recognises in a command.
        hunk = f"*** Update File: {step['path']}\n@@\n-{step['old']}\n+{step['new']}\n"
        command = f"apply_patch <<'EOF'\n*** Begin Patch\n{hunk}*** End Patch\nEOF"
    elif step["tool"] == "edit":
        program = "import sys; p, a, b = sys.argv[1:]; t = open(p).read(); assert a in t; open(p, 'w').write(t.replace(a, b))"
        command = f"python3 -c {quoted(program)} {step['path']} {quoted(step['old'])} {quoted(step['new'])}"
    else:
        command = step["command"]
    return shell, SHELL_TOOLS[shell](command)


def text_of(value):
    """Tool results come as text, as lists of parts or as objects; a transcript wants text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(text_of(part.get("text", part) if isinstance(part, dict) else part) for part in value)
    return json.dumps(value)


class ChatCompletions:
    """`POST …/chat/completions`, streamed or whole."""

    @staticmethod
    def matches(path):
        return path.endswith("/chat/completions")

    @staticmethod
    def offered(request):
        return {tool["function"]["name"] for tool in request.get("tools") or []}

    @staticmethod
    def results(request):
        return [text_of(message["content"]) for message in request["messages"] if message["role"] == "tool"]

    @staticmethod
    def answer(request, _path, index, call):
        if call is None:
            message, reason = {"role": "assistant", "content": SUMMARY}, "stop"
        else:
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            calls = [{"id": f"{CALL_PREFIX}{index}", "type": "function", "function": function}]
            message, reason = {"role": "assistant", "content": "Next step.", "tool_calls": calls}, "tool_calls"
        body = {"id": f"chat-{index}", "created": 1, "model": request.get("model", "scripted")}
        body["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        if not request.get("stream"):
            choices = [{"index": 0, "message": message, "finish_reason": reason}]
            return [body | {"object": "chat.completion", "choices": choices}], None
        for position, tool in enumerate(message.get("tool_calls", [])):
            tool["index"] = position
        delta = {"index": 0, "delta": message, "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": reason}
        chunk = body | {"object": "chat.completion.chunk"}
        return [chunk | {"choices": [delta]}, chunk | {"choices": [last]}], "[DONE]"


class Responses:
    """`POST …/responses`, always streamed."""

    @staticmethod
    def matches(path):
        return path.endswith("/responses")

    @staticmethod
    def offered(request):
        return {tool["name"] for tool in request.get("tools") or [] if tool.get("type") == "function"}

    @staticmethod
    def results(request):
        items = [item for item in request["input"] if item.get("type") == "function_call_output"]
        return [text_of(item["output"]) for item in items]

    @staticmethod
    def answer(_request, _path, index, call):
        if call is None:
            content = [{"type": "output_text", "text": SUMMARY, "annotations": []}]
            item = {"type": "message", "role": "assistant", "id": f"message-{index}", "status": "completed", "content": content}
        else:
            item = {"type": "function_call", "id": f"item-{index}", "call_id": f"{CALL_PREFIX}{index}", "status": "completed"}
            item |= {"name": call[0], "arguments": json.dumps(call[1])}
        response = {"id": f"response-{index}", "object": "response", "status": "completed", "output": [item]}
        response["usage"] = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        response["usage"] |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        return [
            {"type": "response.created", "response": response | {"status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response},
        ], ""


class Gemini:
    """`POST …/models/NAME:generateContent` and `:streamGenerateContent`."""

    @staticmethod
    def matches(path):
        return path.lower().endswith("generatecontent")

    @staticmethod
    def offered(request):
        tools = request.get("tools") or []
        return {function["name"] for tool in tools for function in tool.get("functionDeclarations", [])}

    @staticmethod
    def results(request):
        parts = [part for content in request["contents"] for part in content.get("parts", [])]
        responses = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
        return [text_of(response.get("output", response.get("error", response))) for response in responses]

    @staticmethod
    def answer(_request, path, _index, call):
        part = {"text": SUMMARY} if call is None else {"functionCall": {"name": call[0], "args": call[1]}}
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}
        return [body], "" if "stream" in path else None


PROTOCOLS = [ChatCompletions, Responses, Gemini]


class Endpoint:
    """The endpoint on a free port of loopback; `outputs[i]` is what the agent reported for step `i`."""

    def __init__(self, steps, workspace, finish_command=None):
        self.steps = list(steps)
        if finish_command:
            self.steps.append({"name": "finish", "kind": "finish", "tool": "shell", "command": finish_command})
        self.workspace = workspace
        self.outputs = []
        self.requests = 0
        self.finished = False
        self.complaints = []
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.reply(200, "application/json", b'{"object": "list", "data": [], "models": []}')

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.split("?")[0]
                protocol = next((protocol for protocol in PROTOCOLS if protocol.matches(path)), None)
                if protocol is None:
                    self.reply(200, "application/json", b'{"totalTokens": 1}')
                    return
                try:
                    events, end = endpoint.turn(protocol, json.loads(body), path)
                except (KeyError, TypeError, ValueError) as error:
                    endpoint.complaints.append(f"{path}: {error!r}")
                    self.reply(400, "application/json", b'{"error": {"message": "not understood"}}')
                    return
                if end is None:
                    self.reply(200, "application/json", json.dumps(events[0]).encode())
                    return
                named = [(f"event: {event['type']}\n" if "type" in event else "") for event in events]
                lines = [f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(named, events)]
                lines += [f"data: {end}\n\n"] if end else []
                self.reply(200, "text/event-stream", "".join(lines).encode())

            def reply(self, status, kind, body):
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.lock = threading.Lock()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def turn(self, protocol, request, path):
        """The next step for this conversation, as the protocol's events and its end marker (None: not streamed)."""
        with self.lock:
            self.requests += 1
            results = protocol.results(request)
            index = len(results)
            if index > len(self.outputs):
                self.outputs = results
            offered = protocol.offered(request)
            call = tool_call(self.steps[index], offered, self.workspace) if index < len(self.steps) else None
            if call is None and offered:
                self.finished = index >= len(self.steps)
            elif call is not None and self.steps[index]["kind"] == "finish":
                self.finished = True
            return protocol.answer(request, path, index, call)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
