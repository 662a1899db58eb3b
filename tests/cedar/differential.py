#!/usr/bin/env python3
"""Random policies through `leash policy eval` and through cedarpy, an official evaluator that isn't linked into Leash.

    python3 -m venv venv && venv/bin/pip install -r tests/cedar/requirements.txt
    cargo build --release -p leash-agent
    venv/bin/python tests/cedar/differential.py --leash target/release/leash

The generator shares nothing with the one in `leash-policy/tests/generate`. Each set of policies has a seed of its own; sets that
once differed are in `seeds.txt` beside this file and are replayed first. A set is right if

- Leash and Cedar give the same verdict and the same determining policies for every request, with two stores of entities: one that
  holds of resources the request's own only, and one that holds the directories above it, too;
- Leash refuses it, at a line of it, where it asks for the data of an entity that it names, and nowhere else; and where Cedar's
  validator refuses it.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

import cedarpy

HERE = pathlib.Path(__file__).resolve().parent
SCHEMA = (HERE.parent.parent / "policies" / "leash.cedarschema").read_text()
REQUESTS = 200
INVALID = 3

NAMES = ["a", "b", "ab", "k.pem", "key", ".ssh", "é", "x y", "a*b", "日本", "Z"]
PROGRAMS = ["/bin/a", "/bin/ab", "/usr/bin/python3", "/usr/bin/python3.12", "/é", "/opt/a/b"]
PROTOCOLS = ["tcp", "udp", "icmp", "icmpv6", "sctp", "udplite", "dccp", "raw", "other"]
SOCKETS = ["netlink/route", "netlink/audit", "packet/raw", "inet/icmp", "a/a", "ab/a"]
ADDRESSES = ["0.0.0.0", "10.0.0.1", "10.255.0.1", "11.0.0.0", "127.0.0.1", "169.254.169.254", "239.1.2.3", "::", "::1", "fe80::1",
             "ff02::1", "2001:db8::7", "fd00::1"]
NETWORKS = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.1", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/0", "::1", "fe80::/10",
            "2001:db8::/32"]
PORTS = [0, 1, 22, 80, 443, 1023, 1024, 8080, 65534, 65535]
FILE_ACTIONS = ["FileRead", "FileWrite", "FileCreate", "FileDelete", "FileRename", "FileLink", "FileSetAttributes", "ProcessExec"]
NETWORK_ACTIONS = ["NetworkConnect", "NetworkListen", "NetworkSend"]
ATTRIBUTES = {"File": ["path", "name"], "Dir": ["path", "name"], "UnixSocket": ["path"], "Socket": ["family", "protocol"],
              "Endpoint": ["ip", "port", "protocol"], "Process": ["exe"]}


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Generator:
    """Policies, a principal and requests of one seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        # Whether a policy asks for the data of an entity that it names.
        self.asks = False

    def pick(self, of):
        return self.random.choice(of)

    def chance(self, percent):
        return self.random.random() * 100 < percent

    def path(self):
        return "/" + "/".join(self.pick(NAMES) for _ in range(self.random.randint(1, 3)))

    def unix(self):
        return "@" + self.pick(NAMES) if self.chance(40) else self.path()

    def literal(self, kind):
        if kind == "UnixSocket":
            name = self.unix()
        elif kind == "Socket":
            name = self.pick(SOCKETS)
        elif kind == "Endpoint":
            name = f"{self.pick(PROTOCOLS)}/{self.pick(['10.0.0.1', '[::1]'])}:{self.pick(PORTS)}"
        else:
            name = self.path()
        return f"{kind}::{quote(name)}"

    def constant(self):
        """True or false for all requests of a session, or by action."""
        kind = self.pick(list(ATTRIBUTES))
        one, other = self.literal(kind), self.literal(kind)
        return self.pick([
            "principal.is_ai", "principal.uid > 500", 'principal in Team::"core"', 'principal == Agent::"claude"',
            'principal.labels.contains("env=ci")', "principal.labels.isEmpty()", 'principal.user like "d*"', "context has exe",
            'action == Action::"FileRead"', 'action in Action::"FileModify"', 'Agent::"claude" in Team::"core"',
            'Agent::"nobody" has uid', f"{one} == {other}", f"{one} != {one}", f"{one} is {kind}", f"{one} is System",
            f"[{one}, {other}].contains({other})", f"{{ a: {one} }}.a == {other}", f"(if principal.is_ai then {one} else {other}) == {one}",
            f"[{one}].containsAll([{one}, {other}])", "true", 'ip("10.0.0.1").isInRange(ip("10.0.0.0/8"))',
        ])

    def text(self, attribute):
        """A test of a text, with what can stand in its place."""
        by_slash = attribute in ("resource.path", "context.exe")
        value = {"context.exe": lambda: self.pick(PROGRAMS), "resource.name": lambda: self.pick(NAMES),
                 "resource.family": lambda: self.pick(SOCKETS).split("/")[0],
                 "resource.protocol": lambda: self.pick(SOCKETS).split("/")[1]}.get(attribute, self.path)
        values = ", ".join(quote(value()) for _ in range(self.random.randint(1, 3)))
        start = self.pick(["", "*", "/", "/*", "*/"]) if by_slash else self.pick(["", "*"])
        pattern = quote(start + self.pick(NAMES).replace("*", "\\*") + self.pick(["", "*", "*k*"])).replace("\\\\*", "\\*")
        shape = self.random.randrange(9)
        return [
            lambda: f"{attribute} == {quote(value())}",
            lambda: f"{quote(value())} != {attribute}",
            lambda: f"[{values}].contains({attribute})",
            lambda: f"[{attribute}, {quote(value())}].containsAny([{values}])",
            lambda: f"[{values}].containsAll([{attribute}])",
            lambda: f"(if {self.constant()} then {attribute} else {quote(value())}) == {quote(value())}",
            lambda: f"{{ a: {attribute} }}.a == {quote(value())}",
            lambda: f"{attribute} like {pattern}",
            lambda: f"{attribute} like {pattern}",
        ][shape]()

    def asked(self, kind):
        """What asks for the data of an entity that the policy names."""
        self.asks = True
        one, attribute = self.literal(kind), self.pick(ATTRIBUTES[kind])
        wrapped = self.pick([one, one, f"(if principal.is_ai then {one} else {self.literal(kind)})", f"{{ a: {one} }}.a"])
        return self.pick([
            f"{wrapped} in Dir::{quote(self.path())}", f"{wrapped} in [{one}, {self.literal(kind)}]", f"{wrapped} in {wrapped}",
            f"{wrapped} has {attribute}", f"({wrapped} has {attribute} && {wrapped}.{attribute} == {wrapped}.{attribute})",
            f"{wrapped} is {kind} in {self.literal(kind)}", f"[{wrapped} has {attribute}].contains(true)",
        ])

    def test(self, kind):
        if self.chance(12):
            return self.constant()
        if self.chance(4):
            return self.pick(["resource == resource", f"(if {self.constant()} then resource else resource) == resource",
                              f"context == {{ exe: {quote(self.pick(PROGRAMS))} }}"])
        if self.chance(15):
            return self.text("context.exe")
        if kind in ("File", "Dir"):
            return self.pick([
                lambda: f"resource in Dir::{quote(self.path())}",
                lambda: f"resource in [Dir::{quote(self.path())}, Dir::{quote(self.path())}]",
                lambda: f"resource == {self.literal(kind)}",
                lambda: f"[{self.literal(kind)}, {self.literal(kind)}].contains(resource)",
                lambda: f"(if {self.constant()} then {self.literal(kind)} else {self.literal(kind)}) == resource",
                lambda: f"resource in (if {self.constant()} then Dir::{quote(self.path())} else Dir::{quote(self.path())})",
                lambda: f"resource is {kind} in Dir::{quote(self.path())}",
                lambda: f"(if {self.text('resource.name')} then resource.path else resource.name) == {quote(self.path())}",
                lambda: f'resource.path == (if resource has port then "/a" else {quote(self.path())})',
                lambda: self.text("resource.path"), lambda: self.text("resource.path"), lambda: self.text("resource.name"),
            ])()
        if kind == "UnixSocket":
            return self.pick([lambda: f"resource == {self.literal(kind)}", lambda: f"resource.path like {quote(self.pick(['@*', '/*', '*k*']))}",
                              lambda: f"[{self.literal(kind)}].contains(resource)", lambda: f"resource.path == {quote(self.unix())}"])()
        if kind == "Socket":
            return self.pick([lambda: f"resource == {self.literal(kind)}", lambda: self.text("resource.family"),
                              lambda: self.text("resource.protocol")])()
        if kind == "Endpoint":
            port = self.pick(PORTS)
            return self.pick([
                f"resource.port == {port}", f"resource.port < {port}", f"resource.port >= {port}", f"{port} < resource.port",
                f"[{port}, 443].contains(resource.port)", f"resource.port + 1 == {port}", f"{port} - resource.port <= 0",
                f"(if {self.constant()} then resource.port else 80) == {port}", f"resource.ip == ip(\"{self.pick(NETWORKS)}\")",
                f"resource.ip.isInRange(ip(\"{self.pick(NETWORKS)}\"))", f"ip(\"{self.pick(NETWORKS)}\").isInRange(resource.ip)",
                f"resource.ip.{self.pick(['isLoopback', 'isMulticast', 'isIpv4', 'isIpv6'])}()",
                f"resource.protocol == \"{self.pick(PROTOCOLS)}\"", f"resource.protocol like \"{self.pick(['*dp*', 't*', '*'])}\"",
            ])
        return self.pick([lambda: f"resource is {self.pick(list(ATTRIBUTES))}",
                          lambda: (lambda k: f"(resource is {k} && {self.test(k)})")(self.pick(["File", "Dir", "Endpoint", "UnixSocket", "Socket"])),
                          lambda: f"resource in Dir::{quote(self.path())}",
                          lambda: "resource has port"])()

    def condition(self, kind, depth):
        if depth == 0 or self.chance(25):
            return self.test(kind)
        left, right = self.condition(kind, depth - 1), self.condition(kind, depth - 1)
        return self.pick([f"({left} && {right})", f"({left} || {right})", f"!({left})", f"({left}) == ({right})",
                          f"(if {left} then {right} else {self.condition(kind, depth - 1)})"])

    def policies(self):
        texts = []
        asking = self.random.randrange(8) if self.chance(12) else None
        for number in range(self.random.randint(1, 8)):
            action, kind, scopes = self.pick([
                (f"action == Action::\"{self.pick(FILE_ACTIONS)}\"", "File",
                 ["resource", f"resource in Dir::{quote(self.path())}", f"resource == {self.literal('File')}"]),
                ("action in [Action::\"FileOpen\", Action::\"ProcessExec\"]", "File",
                 ["resource", f"resource is File in Dir::{quote(self.path())}"]),
                ("action == Action::\"DirList\"", "Dir", ["resource", f"resource == {self.literal('Dir')}"]),
                ("action in Action::\"Network\"", "Endpoint", ["resource is Endpoint"]),
                ("action in Action::\"Network\"", "UnixSocket", ["resource is UnixSocket", f"resource == {self.literal('UnixSocket')}"]),
                ("action == Action::\"SocketCreate\"", "Socket", ["resource"]),
                ("action", "any", ["resource"]),
                ("action", "any", ["resource", "resource is File", f"resource in Dir::{quote(self.path())}"]),
            ])
            who = self.pick(["principal", "principal", "principal is Agent", 'principal in Team::"core"', 'principal == Agent::"claude"'])
            effect = self.pick(["permit", "permit", "forbid"])
            text = f"@id(\"p{number}\") {effect}({who}, {action}, {self.pick(scopes)})"
            conditions = [(self.pick(["when", "unless"]), self.condition(kind, 3)) for _ in range(self.random.randrange(3))]
            if asking == number:
                conditions.append(("when", f"({self.condition(kind, 1)}) == ({self.asked(self.pick(list(ATTRIBUTES)))})"))
            texts.append(text + "".join(f"\n  {word} {{ {condition} }}" for word, condition in conditions) + ";\n")
        return "".join(texts)

    def principal(self):
        return {"name": self.pick(["claude", "other"]), "user": self.pick(["dev", "root"]), "uid": self.pick([0, 1000]),
                "is_ai": self.chance(70), "labels": ["a", "env=ci"] if self.chance(50) else [], "teams": ["core"] if self.chance(50) else []}

    def near(self, known):
        """A path near those that the policies name."""
        path = self.pick(known) if known and self.chance(80) else self.path()
        path = self.pick([path, path, path + "/" + self.pick(NAMES), path + self.pick(NAMES), path[:-1], path.rpartition("/")[0]])
        return "/" + "/".join(part for part in path.split("/") if part not in ("", ".", ".."))

    def requests(self, text):
        known = [found for found in re.findall(r'"(/[^"*\\]*)', text)]
        for _ in range(REQUESTS):
            shape = self.random.randrange(10)
            if shape < 5:
                action, resource = self.pick(FILE_ACTIONS), {"type": "File", "path": self.near(known)}
            elif shape == 5:
                action, resource = "DirList", {"type": "Dir", "path": self.near(known)}
            elif shape < 8:
                action = self.pick(NETWORK_ACTIONS)
                port = self.random.randrange(65536) if self.chance(20) else self.pick(PORTS)
                resource = {"type": "Endpoint", "ip": self.pick(ADDRESSES), "port": port, "protocol": self.pick(PROTOCOLS)}
            elif shape == 8:
                path = "@" + self.pick(NAMES) if self.chance(40) else self.near(known)
                action, resource = self.pick(NETWORK_ACTIONS), {"type": "UnixSocket", "path": path}
            else:
                action, resource = "SocketCreate", {"type": "Socket", "name": self.pick(SOCKETS)}
            exe = self.pick(PROGRAMS) if self.chance(80) else self.near(known)
            yield {"action": action, "resource": resource, "context": {"exe": exe}}


def entity(kind, name, attributes=None, parents=()):
    return {"uid": {"type": kind, "id": name}, "attrs": attributes or {}, "parents": [{"type": t, "id": i} for t, i in parents]}


def directory(path):
    return {"path": path, "name": path.rpartition("/")[2]}


def above(path):
    return ["/"] + ["/" + "/".join(path.split("/")[1:end]) for end in range(2, path.count("/") + 1)] if path != "/" else []


def resource_entities(resource, chain):
    """The resource, and its uid; with `chain`, the directories above it are entities, too."""
    kind = resource["type"]
    if kind in ("File", "Dir"):
        path = resource["path"]
        parents = [("Dir", directory) for directory in above(path)] + ([("Dir", path)] if kind == "File" else [])
        found = [entity(kind, path, directory(path), parents)]
        if chain:
            lower = [path] if kind == "File" else []
            found += [entity("Dir", up, directory(up), [("Dir", parent) for parent in above(up)]) for up in above(path) + lower]
        return found, path
    if kind == "UnixSocket":
        return [entity(kind, resource["path"], {"path": resource["path"]})], resource["path"]
    if kind == "Socket":
        family, protocol = resource["name"].split("/")
        return [entity(kind, resource["name"], {"family": family, "protocol": protocol})], resource["name"]
    name = f"{resource['protocol']}/{resource['ip']}:{resource['port']}"
    ip = {"__extn": {"fn": "ip", "arg": resource["ip"]}}
    return [entity(kind, name, {"ip": ip, "port": resource["port"], "protocol": resource["protocol"]})], name


def ask_cedar(policies, ids, schema, principal, request, chain):
    attributes = {key: principal[key] for key in ("is_ai", "name", "user", "uid", "labels")}
    who = [entity("Agent", principal["name"], attributes, [("Team", team) for team in principal["teams"]])]
    who += [entity("Team", team) for team in principal["teams"]]
    resources, name = resource_entities(request["resource"], chain)
    asked = {"principal": {"type": "Agent", "id": principal["name"]}, "action": {"type": "Action", "id": request["action"]},
             "resource": {"type": request["resource"]["type"], "id": name}, "context": request["context"]}
    answer = cedarpy.is_authorized(asked, policies, who + resources, schema)
    if answer.diagnostics.errors:
        raise RuntimeError(f"Cedar fails: {answer.diagnostics.errors}")
    return answer.decision.value.lower(), sorted(ids[int(reason.removeprefix("policy"))] for reason in answer.diagnostics.reasons)


def compare(seed, leash, schema, directory_path):
    """The number of comparisons of one set, and what is wrong with it."""
    generator = Generator(seed)
    text, principal = generator.policies(), generator.principal()
    requests = list(generator.requests(text))
    policy, agent = directory_path / "set.cedar", directory_path / "agent.json"
    policy.write_text(text)
    agent.write_text(json.dumps(principal))
    command = [leash, "policy", "eval", "--policy", str(policy), "--principal", str(agent)]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    ran = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120)
    valid = cedarpy.validate_policies(text, SCHEMA).validation_passed
    if ran.returncode == INVALID:
        if "set.cedar:" not in ran.stderr:
            return 0, f"refused without a place: {ran.stderr}"
        expected = not valid or generator.asks
        return (1, None) if expected else (0, f"refused: {ran.stderr}")
    if not valid or generator.asks:
        return 0, "accepted, though it " + ("asks for the data of a named entity" if valid else "isn't valid")
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    if len(answers) != len(requests):
        return 0, f"exit code {ran.returncode}, {len(answers)} answers: {ran.stderr}"
    parsed, ids = cedarpy.PolicySet.from_str(text), re.findall(r'@id\("(p\d+)"\)', text)
    for request, answer in zip(requests, answers):
        for chain in (False, True):
            cedar = ask_cedar(parsed, ids, schema, principal, request, chain)
            for who in ("tables", "cedar"):
                told = (answer[who]["verdict"], sorted(answer[who]["policies"] + (answer.get("unnamed", []) if who == "tables" else [])))
                if told != cedar:
                    return 0, f"{request}\n  cedarpy: {cedar}\n  leash's {who}: {told}\n  {principal}"
    return len(requests), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leash", default="target/release/leash", help="the program to test")
    parser.add_argument("--comparisons", type=int, default=50_000, help="requests to compare")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; a set takes one")
    arguments = parser.parse_args()
    first = arguments.seed if arguments.seed is not None else time.time_ns() // 1000
    print(f"first seed {first}", flush=True)
    kept = [int(line.split("#")[0]) for line in (HERE / "seeds.txt").read_text().splitlines() if line.split("#")[0].strip()]
    schema = cedarpy.Schema.from_str(SCHEMA)
    compared = refused = sets = 0
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        while (sets < len(kept) or compared < arguments.comparisons) and len(wrong) < 5:
            seed = kept[sets] if sets < len(kept) else first + sets - len(kept)
            sets += 1
            done, fault = compare(seed, arguments.leash, schema, pathlib.Path(scratch))
            compared += done
            refused += done == 1
            if fault:
                policies = Generator(seed).policies()
                wrong.append(f"seed {seed}: {fault}\n{policies}")
    print(f"{compared} comparisons, {sets} sets, {refused} of them rightly refused, {len(wrong)} wrong")
    print("\n".join(wrong), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
