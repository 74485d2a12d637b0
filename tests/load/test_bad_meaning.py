"""Groups B and C: keys and values that are wrong, or mean nothing together."""

# ruff: noqa: E501 - a table is read row by row, and a row is one line

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.states import COVEN, DIGEST, FLEET, HOST, IMAGE, SERVICE, lines, problems, service, write

BOX = "desired/hosts/box.yaml"
TOP = "desired/fleet.yaml"
WRITING = "desired/covens/writing.yaml"
MODEL = "model: {path: /srv/m}"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
HOOK = "events:\n  webhooks:\n    ops:\n      url: https://h.example.net/\n      secret_file: /etc/recon/secrets/ops\n"
HTTP = "port: 80\nhttp: {health: /h, in_flight: none}"

# name, files put in place, code, place, words that the message must hold
ROWS: list[tuple[str, dict[str, str], str, str, str]] = [
    # keys
    ("unknown key", {BOX: HOST + "addres: x\n"}, "REC2001", f"{BOX}:3:1", "did you mean 'address'?"),
    ("unknown key inside", {BOX: HOST + "ssh: {usr: x}\n"}, "REC2001", f"{BOX}:3:7", "did you mean 'user'?"),
    ("unknown key, nothing near", {BOX: HOST + "zzz: 1\n"}, "REC2001", f"{BOX}:3:1", "use one of: address, host_key"),
    ("unknown key in a list", {BOX: HOST + "shared:\n  - {unit: a.service, memory: 1GiB, helth: x}\n"}, "REC2001", f"{BOX}:4:37", "'health'"),
    ("unknown key of a service", {WRITING: service("imge: x")}, "REC2001", f"{WRITING}:6:5", "'image'"),
    ("unknown key of a generic service", {WRITING: service("port: 80\nhttp: {health: /h, in_flight: {path: /m, metrcs: [a]}}", runtime="generic")}, "REC2001", f"{WRITING}:7:46", "'metrics'"),
    ("window without start", {BOX: HOST + 'schedule:\n  - {coven: writing, to: "04:00"}\n'}, "REC2002", f"{BOX}:4:5", "from: \"02:00\""),
    ("host without address", {BOX: "coven: writing\n"}, "REC2002", f"{BOX}:1:1", "add 'address: 192.0.2.11'"),
    ("service without memory", {WRITING: f"services:\n  one:\n    runtime: none\n    image: {IMAGE}\n"}, "REC2002", f"{WRITING}:2:3", "add 'memory: 96GiB'"),
    ("fleet without version", {TOP: "name: studio\n"}, "REC2002", f"{TOP}:1:1", "add 'version: 1'"),
    ("vllm without model", {WRITING: service("port: 80", runtime="vllm")}, "REC2002", f"{WRITING}:2:3", "serves a model"),
    ("llamacpp without port", {WRITING: service(MODEL, runtime="llamacpp")}, "REC2002", f"{WRITING}:2:3", "add 'port: 8000'"),
    ("in_flight that says nothing", {WRITING: service("port: 80\nhttp: {health: /h, in_flight: {path: /m}}", runtime="generic")}, "REC2002", f"{WRITING}:7:35", "metrics"),
    # types
    ("port as text", {WRITING: service('port: "80"')}, "REC2003", f"{WRITING}:6:11", "remove the quotes: 80"),
    ("number as text", {WRITING: service("env: {A: 1}")}, "REC2003", f"{WRITING}:6:14", 'quote it: "1"'),
    ("boolean as text", {WRITING: service("env: {A: true}")}, "REC2003", f"{WRITING}:6:14", 'quote it: "true"'),
    ("number in args", {WRITING: service("args: [--n, 1]")}, "REC2003", f"{WRITING}:6:17", 'quote it: "1"'),
    ("word for a list", {BOX: "address: 192.0.2.1\nmay_run: writing\n"}, "REC2003", f"{BOX}:2:10", "write [writing]"),
    ("word for a mapping", {BOX: HOST + "memory: 96GiB\n"}, "REC2003", f"{BOX}:3:9", "write a mapping"),
    ("list for a mapping", {BOX: HOST + "slots: [a]\n"}, "REC2003", f"{BOX}:3:8", "write a mapping"),
    ("mapping for text", {BOX: "address: {a: b}\n"}, "REC2003", f"{BOX}:1:10", "a mapping where text"),
    ("no value", {BOX: "address:\n"}, "REC2003", f"{BOX}:1:9", "write one, or remove the key"),
    ("fraction for a number", {WRITING: service("port: 80.5")}, "REC2003", f"{WRITING}:6:11", "a whole number"),
    # events
    ("webhook without address", {TOP: FLEET + "events: {webhooks: {ops: {secret_file: /etc/recon/secrets/ops}}}\n"}, "REC2002", f"{TOP}:3:21", "url"),
    ("webhook to nowhere", {TOP: FLEET + HOOK.replace("https://h.example.net/", "ftp://h.example.net/")}, "REC7320", f"{TOP}:6:12", "https://"),
    ("webhook with a password", {TOP: FLEET + HOOK.replace("https://", "https://a:b@")}, "REC7320", f"{TOP}:6:12", "would stand in git"),
    ("webhook without a host", {TOP: FLEET + HOOK.replace("h.example.net", "")}, "REC7320", f"{TOP}:6:12", "names no host"),
    ("webhook with a bad port", {TOP: FLEET + HOOK.replace(".net", ".net:99999")}, "REC7320", f"{TOP}:6:12", "taken apart"),
    ("webhook with a fragment", {TOP: FLEET + HOOK.replace(".net/", ".net/#a")}, "REC7320", f"{TOP}:6:12", "never sent"),
    ("keys elsewhere", {TOP: FLEET + HOOK.replace("secrets/ops", "secrets/../x")}, "REC7321", f"{TOP}:7:20", "write /etc/recon/secrets/NAME"),
    ("event that is none", {TOP: FLEET + HOOK + "      events: [transition.faild]\n"}, "REC7322", f"{TOP}:8:16", "did you mean transition.failed?"),
    ("event that is nothing like one", {TOP: FLEET + HOOK + "      events: [HELD]\n"}, "REC7322", f"{TOP}:8:16", "host.KIND"),
    ("no event at all", {TOP: FLEET + HOOK + "      events: []\n"}, "REC7322", f"{TOP}:8:7", "never called"),
    ("webhook that waits for long", {TOP: FLEET + HOOK + "      timeout: 31s\n"}, "REC2012", f"{TOP}:8:16", "at most 30s"),
    ("webhook with another key", {BOX: HOST + HOOK + "      secret: x\n"}, "REC2001", f"{BOX}:8:7", "secret_file"),
    ("webhook with a bad name", {BOX: HOST + HOOK.replace("ops:", "Ops:")}, "REC3001", f"{BOX}:5:5", "Ops"),
    ("webhook of a host to nowhere", {BOX: HOST + HOOK.replace("https:", "gopher:")}, "REC7320", f"{BOX}:6:12", "http"),
    # ports
    ("port too large", {WRITING: service("port: 65536")}, "REC2004", f"{WRITING}:6:11", "1 to 65535"),
    ("port zero", {BOX: HOST + "ssh: {port: 0}\n"}, "REC2004", f"{BOX}:3:13", "1 to 65535"),
    ("port twice in a coven", {WRITING: service("port: 80") + f"  two:\n    {SERVICE}    port: 80\n"}, "REC2004", f"{WRITING}:11:11", "'one' has port 80 too"),
    ("port of a resident and a coven", {WRITING: service("port: 80"), BOX: HOST + f"residents:\n  one:\n    {SERVICE}    port: 80\n"}, "REC2004", f"{BOX}:8:11", "service 'one' of coven 'writing'"),
    ("port of a shared service and a coven", {WRITING: service("port: 80"), BOX: HOST + 'shared:\n  - {unit: q.service, memory: 0B, health: "http://127.0.0.1/h"}\n'}, "REC2004", f"{BOX}:4:43", "shared q.service"),
    ("port of a shared service and a resident", {BOX: HOST + f'shared: [{{unit: q.service, memory: 0B, health: "http://192.0.2.1:99/"}}]\nresidents:\n  one:\n    {SERVICE}    port: 99\n'}, "REC2004", f"{BOX}:9:11", "shared q.service"),
    ("port on two slots", {WRITING: service("port: 80"), "desired/covens/b.yaml": service("port: 80"), BOX: 'address: 192.0.2.1\nslots:\n  l: {gpus: ["0"], coven: writing}\n  r: {gpus: ["1"], coven: b}\n'}, "REC2004", f"{BOX}:4:27", "at the same time"),
    # covens
    ("unknown coven", {BOX: "address: 192.0.2.1\ncoven: writting\n"}, "REC2005", f"{BOX}:2:8", "did you mean 'writing'?"),
    ("unknown coven, nothing near", {BOX: "address: 192.0.2.1\ncoven: x\n"}, "REC2005", f"{BOX}:2:8", "add desired/covens/x.yaml, or name one of: writing"),
    ("unknown coven in may_run", {BOX: HOST + "may_run: [writing, wrting]\n"}, "REC2005", f"{BOX}:3:20", "'writing'"),
    ("unknown coven of a slot", {BOX: 'address: 192.0.2.1\nslots: {a: {gpus: ["0"], coven: wrting}}\n'}, "REC2005", f"{BOX}:2:33", "'writing'"),
    ("unknown coven of a window", {BOX: HOST + 'schedule: [{coven: wrting, from: "01:00", to: "02:00"}]\n'}, "REC2005", f"{BOX}:3:20", "'writing'"),
    ("services empty", {WRITING: "services: {}\n"}, "REC2006", f"{WRITING}:1:11", "add a service"),
    ("services missing", {WRITING: "description: x\n"}, "REC2006", f"{WRITING}:1:1", "add 'services:'"),
    ("services without a value", {WRITING: "services:\n"}, "REC2006", f"{WRITING}:1:10", "at least one"),
    # memory
    ("coven too large", {BOX: HOST + "memory: {capacity: 12GiB}\nreserve: 1GiB\nshared: [{unit: q.service, memory: 2GiB}]\n"}, "REC2007", f"{BOX}:2:8", "needs 10GiB; 12GiB capacity - 1GiB reserve - 2GiB shared leaves 9GiB"),
    ("coven of may_run too large", {BOX: "address: 192.0.2.1\nmay_run: [writing]\nmemory: {capacity: 9GiB}\n"}, "REC2007", f"{BOX}:2:11", "needs 10GiB"),
    ("no room for any coven", {BOX: f"address: 192.0.2.1\nmemory: {{capacity: 9GiB}}\nresidents:\n  one:\n    {SERVICE}"}, "REC2007", f"{BOX}:2:20", "10GiB residents leaves -1GiB, before any coven"),
    # exclusive claims
    ("coven on two slots", {BOX: 'address: 192.0.2.1\nslots:\n  l: {gpus: ["0"], coven: writing}\n  r: {gpus: ["1"], coven: writing}\n'}, "REC2009", f"{BOX}:4:27", "slot 'l' runs 'writing' too"),
    ("coven and slots", {BOX: HOST + 'slots: {l: {gpus: ["0"]}}\n'}, "REC2009", f"{BOX}:2:1", "keep one of"),
    # durations and sizes
    ("zero", {TOP: FLEET + "defaults: {drain: {timeout: 0s}}\n"}, "REC2010", f"{TOP}:3:29", "'0s'"),
    ("negative", {TOP: FLEET + "defaults: {drain: {timeout: -1}}\n"}, "REC2010", f"{TOP}:3:29", "90s"),
    ("400 days", {TOP: FLEET + "defaults: {drain: {timeout: 400d}}\n"}, "REC2010", f"{TOP}:3:29", "168h"),
    ("beyond a week", {TOP: FLEET + "defaults: {drain: {timeout: 169h}}\n"}, "REC2010", f"{TOP}:3:29", "168h"),
    ("duration without unit", {TOP: FLEET + "defaults: {drain: {timeout: 30}}\n"}, "REC2010", f"{TOP}:3:29", "30s, or 30m"),
    ("duration of four hundred digits", {TOP: FLEET + f'defaults: {{drain: {{timeout: "{"9" * 400}h"}}}}\n'}, "REC2010", f"{TOP}:3:29", "90s"),
    ("size without unit", {BOX: HOST + "reserve: 24\n"}, "REC2011", f"{BOX}:3:10", "write 24GiB"),
    ("size as text without unit", {BOX: HOST + 'reserve: "24"\n'}, "REC2011", f"{BOX}:3:10", "write 24GiB"),
    ("decimal unit", {BOX: HOST + "reserve: 24GB\n"}, "REC2011", f"{BOX}:3:10", "write 24GiB"),
    ("small letters", {BOX: HOST + "reserve: 512mib\n"}, "REC2011", f"{BOX}:3:10", "write 512MiB"),
    ("size of four hundred digits", {BOX: HOST + f'reserve: "{"9" * 400}B"\n'}, "REC2011", f"{BOX}:3:10", "96GiB"),
    ("drain of a week", {TOP: FLEET + "defaults: {drain: {timeout: 168h}}\n"}, "REC2012", f"{TOP}:3:29", "at most 24h"),
    ("drain of a coven", {WRITING: COVEN + "drain: {timeout: 25h}\n"}, "REC2012", f"{WRITING}:6:18", "at most 24h"),
    ("drain of a service", {WRITING: service("drain: {timeout: 25h}")}, "REC2012", f"{WRITING}:6:22", "at most 24h"),
    ("warm-up of two days", {WRITING: service("warm: {timeout: 48h}")}, "REC2012", f"{WRITING}:6:21", "at most 24h"),
    ("stop of two hours", {WRITING: service("stop: {timeout: 2h}")}, "REC2012", f"{WRITING}:6:21", "at most 1h"),
    ("generic without http", {WRITING: service("port: 80", runtime="generic")}, "REC2013", f"{WRITING}:2:3", "in_flight"),
    # images
    ("tag", {WRITING: service(image="docker.io/vllm/vllm-openai:latest")}, "REC2014", f"{WRITING}:4:12", "@sha256"),
    ("neither tag nor digest", {TOP: FLEET + "policy: {require_digest: false}\n", WRITING: service(image="docker.io/vllm/vllm-openai")}, "REC2014", f"{WRITING}:4:12", "neither tag nor digest"),
    ("short digest", {WRITING: service(image="docker.io/a/b@sha256:abc")}, "REC2015", f"{WRITING}:4:12", "64 hexadecimal"),
    ("short name", {WRITING: service(image=f"vllm/server@{DIGEST}")}, "REC2015", f"{WRITING}:4:12", "docker.io/vllm/server"),
    ("upper case", {WRITING: service(image="docker.io/Team/Server:1")}, "REC2015", f"{WRITING}:4:12", "lower case"),
    ("image as URL", {WRITING: service(image=f"https://docker.io/a/b@{DIGEST}")}, "REC2015", f"{WRITING}:4:12", "https://"),
    ("image that looks like a flag", {WRITING: service(image=f"--privileged/x@{DIGEST}")}, "REC2015", f"{WRITING}:4:12", "registry/name"),
    ("space in an image", {WRITING: service(image=f"docker.io/a b@{DIGEST}")}, "REC2015", f"{WRITING}:4:12", "registry/name"),
    # mounts
    ("mount of /", {WRITING: service('volumes: ["/:/host"]')}, "REC2017", f"{WRITING}:6:15", "everything"),
    ("mount of /etc", {WRITING: service('volumes: ["/etc/ssl:/x:ro"]')}, "REC2017", f"{WRITING}:6:15", "/etc"),
    ("mount above /etc", {TOP: FLEET + "policy: {allow_mounts: [/var]}\n", WRITING: service('volumes: ["/var:/x"]')}, "REC2017", f"{WRITING}:6:15", "/var/lib/containers"),
    ("mount of podman's socket", {WRITING: service('volumes: ["/run/podman/podman.sock:/s"]')}, "REC2017", f"{WRITING}:6:15", "/run"),
    ("mount outside the policy", {WRITING: service('volumes: ["/home/me:/x"]')}, "REC2017", f"{WRITING}:6:15", "allow_mounts"),
    ("mount beside an allowed folder", {WRITING: service('volumes: ["/srvx:/x"]')}, "REC2017", f"{WRITING}:6:15", "allow_mounts"),
    ("model outside the policy", {WRITING: service("port: 80\nmodel: {path: /home/m}", runtime="vllm")}, "REC2017", f"{WRITING}:7:19", "allow_mounts"),
    ("named volume", {WRITING: service('volumes: ["cache:/x"]')}, "REC2017", f"{WRITING}:6:15", "host path"),
    ("mount over the container's /etc", {WRITING: service('volumes: ["/srv/x:/etc"]')}, "REC2017", f"{WRITING}:6:15", "replace part of the system"),
    ("mount over the container's /", {WRITING: service('volumes: ["/srv/x:/"]')}, "REC2017", f"{WRITING}:6:15", "replace part of the system"),
    ("mount option", {WRITING: service('volumes: ["/srv/x:/x:rw"]')}, "REC2017", f"{WRITING}:6:15", "only 'ro'"),
    ("policy that allows /", {TOP: FLEET + "policy: {allow_mounts: [/]}\n"}, "REC2017", f"{TOP}:3:25", "never"),
    ("policy that allows /etc", {TOP: FLEET + "policy: {allow_mounts: [/srv, /etc/x]}\n"}, "REC2017", f"{TOP}:3:31", "never"),
    # order
    ("cycle", {WRITING: service("after: [two]") + f"  two:\n    {SERVICE}    after: [three]\n  three:\n    {SERVICE}    after: [one]\n"}, "REC2018", f"{WRITING}:6:12", "one → two → three → one"),
    ("after itself", {WRITING: service("after: [one]")}, "REC2018", f"{WRITING}:6:12", "one → one"),
    ("after an unknown service", {WRITING: service("after: [on]")}, "REC2032", f"{WRITING}:6:13", "did you mean 'one'?"),
    ("after twice", {WRITING: service("after: [two, two]") + f"  two:\n    {SERVICE}"}, "REC2031", f"{WRITING}:6:18", "remove it"),
    # version and names of things
    ("newer version", {TOP: "version: 2\nname: studio\n"}, "REC2019", f"{TOP}:1:10", "this recon reads version 1"),
    ("version as text", {TOP: 'version: "1"\nname: studio\n'}, "REC2019", f"{TOP}:1:10", "without quotes"),
    ("unknown runtime", {WRITING: service(runtime="vlm")}, "REC2034", f"{WRITING}:3:14", "did you mean 'vllm'?"),
    ("unknown word", {TOP: FLEET + "defaults: {drain: {on_timeout: kill}}\n"}, "REC2034", f"{TOP}:3:32", "write one of: abort, force"),
    ("unknown in_flight", {WRITING: service("port: 80\nhttp: {health: /h, in_flight: non}", runtime="generic")}, "REC2034", f"{WRITING}:7:35", "write 'none'"),
    ("metrics and json_field", {WRITING: service("port: 80\nhttp:\n  health: /h\n  in_flight: {path: /m, metrics: [a], json_field: b}", runtime="generic")}, "REC2034", f"{WRITING}:9:43", "keep one"),
    ("too many tasks", {WRITING: service("limits: {tasks: 5}")}, "REC2034", f"{WRITING}:6:21", "16"),
    ("health URL with a password", {BOX: HOST + "shared: [{unit: q.service, memory: 0B, health: \"http://u:p@127.0.0.1/\"}]\n"}, "REC2021", f"{BOX}:3:48", "everybody who reads git"),
    ("health URL of a metadata service", {BOX: HOST + "shared: [{unit: q.service, memory: 0B, health: \"http://169.254.169.254/\"}]\n"}, "REC2021", f"{BOX}:3:48", "credentials"),
    ("health URL of another kind", {BOX: HOST + "shared: [{unit: q.service, memory: 0B, health: \"file:///etc/x\"}]\n"}, "REC2021", f"{BOX}:3:48", "http://"),
    ("health URL with a bad port", {BOX: HOST + "shared: [{unit: q.service, memory: 0B, health: \"http://127.0.0.1:99999/\"}]\n"}, "REC2021", f"{BOX}:3:48", "not a URL"),
    ("spiral", {BOX: HOST + "spiral: {enabled: true}\n"}, "REC2086", f"{BOX}:3:19", "write 'enabled: false'"),
    # models and runtimes
    ("path and hub", {WRITING: service("port: 80\nmodel: {path: /srv/m, hub: a/b}", runtime="vllm")}, "REC2025", f"{WRITING}:7:5", "both"),
    ("neither path nor hub", {WRITING: service("port: 80\nmodel: {}", runtime="vllm")}, "REC2025", f"{WRITING}:7:5", "neither"),
    ("hub without organisation", {WRITING: service("port: 80\nmodel: {hub: llama}", runtime="vllm")}, "REC2025", f"{WRITING}:7:18", "org/name"),
    ("http of a known runtime", {WRITING: service(f"{HTTP}\n{MODEL}", runtime="vllm")}, "REC2026", f"{WRITING}:7:5", "knows its own endpoints"),
    ("http of no runtime", {WRITING: service(HTTP)}, "REC2026", f"{WRITING}:7:5", "not asked over HTTP"),
    ("repeated --model", {WRITING: service(f"port: 80\n{MODEL}\nargs: [--x, --model, /m]", runtime="vllm")}, "REC2027", f"{WRITING}:8:17", "'model'"),
    ("repeated --port=", {WRITING: service(f"port: 80\n{MODEL}\nargs: [--port=1]", runtime="vllm")}, "REC2027", f"{WRITING}:8:12", "'port'"),
    ("repeated -m", {WRITING: service(f"port: 80\n{MODEL}\nargs: [-m, /m]", runtime="llamacpp")}, "REC2027", f"{WRITING}:8:12", "'model'"),
    # schedule
    ("unknown time zone", {BOX: HOST + 'schedule: [{coven: writing, from: "01:00", to: "02:00", timezone: Europe/Berlim}]\n'}, "REC2028", f"{BOX}:3:67", "Europe/Berlin"),
    ("window of no length", {BOX: HOST + 'schedule: [{coven: writing, from: "01:00", to: "01:00"}]\n'}, "REC2028", f"{BOX}:3:48", "another time"),
    ("hour 24", {BOX: HOST + 'schedule: [{coven: writing, from: "24:00", to: "01:00"}]\n'}, "REC2028", f"{BOX}:3:35", '"02:00"'),
    ("unknown day", {BOX: HOST + 'schedule: [{coven: writing, from: "02:00", to: "01:00", days: Mo}]\n'}, "REC2028", f"{BOX}:3:63", "Mon..Fri"),
    ("window of a host with two slots", {BOX: 'address: 192.0.2.1\nslots: {l: {gpus: ["0"], coven: writing}, r: {gpus: ["1"]}}\nschedule:\n  - {coven: writing, from: "02:00", to: "04:00"}\n'}, 'REC2071', f"{BOX}:4:5", 'slot: l'),
    ("window of a slot that is not there", {BOX: 'address: 192.0.2.1\nslots: {l: {gpus: ["0"], coven: writing}, r: {gpus: ["1"]}}\nschedule:\n  - {coven: writing, from: "02:00", to: "04:00", slot: x}\n'}, 'REC2071', f"{BOX}:4:56", 'name one of them'),
    ("window of a slot on a host without any", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00", slot: x}\n'}, 'REC2071', f"{BOX}:4:56", 'name one of them'),
    ("windows that tie", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00", require: drained}\n  - {coven: writing, from: "02:00", to: "04:00"}\n'}, 'REC2070', f"{BOX}:5:5", 'priority'),
    ("windows that tie, one of which spells its slot out", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00", require: drained}\n  - {coven: writing, from: "03:00", to: "05:00", slot: all}\n'}, 'REC2070', f"{BOX}:5:5", 'priority'),
    ("windows that tie, one of which spells the only slot out", {BOX: 'address: 192.0.2.1\nslots: {l: {gpus: ["0"], coven: writing}}\nschedule:\n  - {coven: writing, from: "02:00", to: "04:00", slot: l, require: drained}\n  - {coven: writing, from: "03:00", to: "05:00"}\n'}, 'REC2070', f"{BOX}:5:5", 'priority'),
    ("windows that tie over midnight", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00"}\n  - {coven: writing, from: "23:00", to: "02:01", days: Sun, require: drained}\n'}, 'REC2070', f"{BOX}:5:5", 'priority'),
    ("windows that tie in one half of the year alone", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "03:00", timezone: Europe/Berlin}\n  - {coven: writing, from: "00:30", to: "00:45", require: drained}\n'}, 'REC2070', f"{BOX}:5:5", 'priority'),
    ("windows that tie in the hours between the moves of two clocks", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "04:00", to: "04:30", days: Sun, timezone: America/New_York}\n  - {coven: writing, from: "00:00", to: "00:20", days: Sun, timezone: America/Los_Angeles, require: drained}\n'}, 'REC2070', f"{BOX}:5:5", 'priority'),
    ("windows that tie in the half hour between the moves of two clocks", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:30", to: "02:45", days: Sun, timezone: Australia/Lord_Howe}\n  - {coven: writing, from: "01:30", to: "01:45", days: Sun, timezone: Australia/Sydney, require: drained}\n'}, 'REC2070', f"{BOX}:5:5", 'priority'),
    ("coven of a window on two slots", {BOX: 'address: 192.0.2.1\nslots: {l: {gpus: ["0"], coven: writing}, r: {gpus: ["1"]}}\nschedule:\n  - {coven: writing, from: "02:00", to: "04:00", slot: r}\n'}, 'REC2072', f"{BOX}:4:13", 'second name'),
    ("window that is over before it may begin", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00", yields: 2h}\n'}, 'REC2073', f"{BOX}:4:58", 'less than 2h'),
    ("priority above 100", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00", priority: 101}\n'}, 'REC2034', f"{BOX}:4:60", "inside these bounds"),
    ("condition nobody knows", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00", require: idle}\n'}, 'REC2034', f"{BOX}:4:59", 'drained'),
    ("idleness without a unit", {BOX: HOST + 'schedule:\n  - {coven: writing, from: "02:00", to: "04:00", yields: 10}\n'}, 'REC2010', f"{BOX}:4:58", '10m'),
    # slots
    ("GPU in two slots", {BOX: 'address: 192.0.2.1\nslots: {l: {gpus: ["0"]}, r: {gpus: ["1", "0"]}}\n'}, "REC2029", f"{BOX}:2:43", "slot 'l'"),
    ("GPU twice in a slot", {BOX: 'address: 192.0.2.1\nslots: {l: {gpus: ["0", "0"]}}\n'}, "REC2029", f"{BOX}:2:25", "this slot"),
    ("not a GPU", {BOX: 'address: 192.0.2.1\nslots: {l: {gpus: [first]}}\n'}, "REC2029", f"{BOX}:2:20", "nvidia-smi -L"),
    ("slot without GPUs", {BOX: "address: 192.0.2.1\nslots: {l: {gpus: []}}\n"}, "REC2029", f"{BOX}:2:19", "at least one GPU"),
    ("no slots", {BOX: "address: 192.0.2.1\nslots: {}\n"}, "REC2029", f"{BOX}:2:1", "one slot of all GPUs"),
    # said twice
    ("one address twice", {"desired/hosts/a.yaml": HOST}, "REC2030", f"{BOX}:1:10", "desired/hosts/a.yaml"),
    ("may_run twice", {BOX: HOST + "may_run: [writing, writing]\n"}, "REC2031", f"{BOX}:3:20", "remove it"),
    ("shared twice", {BOX: HOST + "shared: [{unit: q.service, memory: 0B}, {unit: q.service, memory: 0B}]\n"}, "REC2031", f"{BOX}:3:48", "twice"),
    ("mounted twice", {WRITING: service('volumes: ["/srv/a:/x", "/srv/b:/x:ro"]')}, "REC2031", f"{WRITING}:6:28", "another place"),
    ("coven not in may_run", {BOX: HOST + "may_run: []\n"}, "REC2033", f"{BOX}:2:8", "add 'writing' to 'may_run'"),
    # keys of hosts
    ("key of an unknown type", {BOX: HOST + "host_key: ssh-dss AAAA\n"}, "REC2035", f"{BOX}:3:11", "ssh-keyscan"),
    ("key that is not base64", {BOX: HOST + "host_key: ssh-ed25519 AAA…\n"}, "REC2035", f"{BOX}:3:11", "not base64"),
    ("key cut short", {BOX: HOST + f"host_key: {KEY[:-8]}\n"}, "REC2035", f"{BOX}:3:11", "whole"),
    ("key of another type", {BOX: HOST + f"host_key: {KEY.replace('ssh-ed25519', 'ssh-rsa')}\n"}, "REC2035", f"{BOX}:3:11", "whole ssh-rsa key"),
    ("key without base64", {BOX: HOST + "host_key: ssh-ed25519\n"}, "REC2035", f"{BOX}:3:11", "missing"),
    # names
    ("name of a host", {"desired/hosts/Box_2.yaml": "address: 192.0.2.2\n"}, "REC3001", "desired/hosts/Box_2.yaml", "write 'box-2'"),
    ("name of a coven", {"desired/covens/9.yaml": COVEN}, "REC3001", "desired/covens/9.yaml", "rename the file"),
    ("long name", {f"desired/hosts/{'x' * 32}.yaml": "address: 192.0.2.2\n"}, "REC3001", f"desired/hosts/{'x' * 32}.yaml", "at most 31"),
    ("name of a service", {WRITING: f"services:\n  One Two:\n    {SERVICE}"}, "REC3001", f"{WRITING}:2:3", "write 'one-two'"),
    ("name of a slot", {BOX: 'address: 192.0.2.1\nslots: {L_1: {gpus: ["0"]}}\n'}, "REC3001", f"{BOX}:2:9", "write 'l-1'"),
    ("name of the fleet", {TOP: "version: 1\nname: My Studio\n"}, "REC3001", f"{TOP}:2:7", "write 'my-studio'"),
    ("reserved name", {"desired/covens/gate.yaml": COVEN}, "REC3001", "desired/covens/gate.yaml", "recon makes itself"),
    ("reserved beginning", {"desired/covens/gate-all.yaml": COVEN}, "REC3001", "desired/covens/gate-all.yaml", "recon makes itself"),
    ("shared unit of recon", {BOX: HOST + "shared: [{unit: recon-x.service, memory: 0B}]\n"}, "REC3002", f"{BOX}:3:17", "residents"),
    ("names joined alike", {"desired/covens/a.yaml": f"services:\n  b-c:\n    {SERVICE}", "desired/covens/a-b.yaml": f"services:\n  c:\n    {SERVICE}"}, "REC3003", "desired/covens/a.yaml:2:3", "recon-a-b-c"),
    ("gates joined alike", {"desired/covens/b-c.yaml": COVEN, "desired/covens/c.yaml": COVEN, BOX: 'address: 192.0.2.1\nslots:\n  a: {gpus: ["0"], coven: b-c}\n  a-b: {gpus: ["1"], coven: c}\n'}, "REC3003", f"{BOX}:4:3", "recon-gate-a-b-c"),
    ("names alike but for case", {"desired/hosts/BOX.yaml": "address: 192.0.2.3\n"}, "REC3003", BOX, "same name"),
    ("names alike in Unicode", {"desired/hosts/ｂox.yaml": "address: 192.0.2.3\n"}, "REC3003", "desired/hosts/ｂox.yaml", "same name"),
    # paths and texts
    ("dots in a path", {WRITING: service('volumes: ["/srv/../etc:/x"]')}, "REC3004", f"{WRITING}:6:15", "/etc"),
    ("dots inside the container", {WRITING: service('volumes: ["/srv/x:/y/../etc"]')}, "REC3004", f"{WRITING}:6:15", "'..'"),
    ("relative inside the container", {WRITING: service('volumes: ["/srv/x:y"]')}, "REC3004", f"{WRITING}:6:15", "absolute"),
    ("space in a host path", {WRITING: service('volumes: ["/srv/a b:/y"]')}, "REC3004", f"{WRITING}:6:15", "white space"),
    ("quote in a model's path", {WRITING: service("port: 80\nmodel: {path: '/srv/a\"b'}", runtime="vllm")}, "REC3004", f"{WRITING}:7:19", "quotes"),
    ("long part", {WRITING: service(f'volumes: ["/srv/{"x" * 256}:/y"]')}, "REC3004", f"{WRITING}:6:15", "255"),
    ("relative model", {WRITING: service("port: 80\nmodel: {path: srv/m}", runtime="vllm")}, "REC3004", f"{WRITING}:7:19", "write /srv/m"),
    ("relative health path", {WRITING: service("port: 80\nhttp: {health: h, in_flight: none}", runtime="generic")}, "REC3004", f"{WRITING}:7:20", "start a path with '/'"),
    ("line break in a variable", {WRITING: service('env: {A: "x\\nExecStartPre=/bin/y"}')}, "REC3005", f"{WRITING}:6:14", "services.one.env.A"),
    ("line break in a description", {WRITING: "description: |\n  two\n  lines\n" + COVEN}, "REC3005", f"{WRITING}:1:14", "'>-'"),
    ("tab in an argument", {WRITING: service('args: ["a\\tb"]')}, "REC3005", f"{WRITING}:6:12", "services.one.args.0"),
    ("giant value", {WRITING: service(f"env: {{A: {'x' * 8193}}}")}, "REC3007", f"{WRITING}:6:14", "8192"),
    ("giant command line", {WRITING: service(f"args: [{', '.join(['x' * 1000] * 9)}]")}, "REC3007", f"{WRITING}:6:5", "9027 bytes"),
    ("name of a variable", {WRITING: service('env: {"A-B": x}')}, "REC3009", f"{WRITING}:6:11", "letters, digits"),
    ("LD_PRELOAD", {WRITING: service("env: {LD_PRELOAD: /x.so}")}, "REC3009", f"{WRITING}:6:11", "allow_env"),
    ("NVIDIA_VISIBLE_DEVICES", {WRITING: service("env: {NVIDIA_VISIBLE_DEVICES: all}")}, "REC3009", f"{WRITING}:6:11", "slot"),
    ("policy with a bad variable", {TOP: FLEET + "policy: {allow_env: [A B]}\n"}, "REC3009", f"{TOP}:3:22", "letters"),
    # users and addresses
    ("user like a flag", {BOX: HOST + "ssh: {user: -oProxyCommand=x}\n"}, "REC3010", f"{BOX}:3:13", "login name"),
    ("user of the fleet", {TOP: FLEET + "defaults: {ssh: {user: $(x)}}\n"}, "REC3010", f"{TOP}:3:24", "login name"),
    ("jump host like a flag", {BOX: HOST + "ssh: {jump: -x}\n"}, "REC3010", f"{BOX}:3:13", "user@host"),
    ("address like a flag", {BOX: "address: -oProxyCommand=x\n"}, "REC3010", f"{BOX}:1:10", "no '-' first"),
    ("address with shell characters", {BOX: 'address: "a;reboot"\n'}, "REC3010", f"{BOX}:1:10", "shell characters"),
    ("address with a percent sign", {BOX: 'address: "%h.example.net"\n'}, "REC3010", f"{BOX}:1:10", "host name"),
    ("address with a port", {BOX: "address: 192.0.2.1:22\n"}, "REC3010", f"{BOX}:1:10", "ssh: {port: …}"),
    ("address beyond 255", {BOX: "address: 192.0.2.300\n"}, "REC3010", f"{BOX}:1:10", "not an IP address"),
    ("address in brackets", {BOX: 'address: "[2001:db8::1]"\n'}, "REC3010", f"{BOX}:1:10", "2001:db8::1"),
    ("unit with a slash", {BOX: HOST + "shared: [{unit: ../x.service, memory: 0B}]\n"}, "REC3010", f"{BOX}:3:17", "qdrant.service"),
    ("zone", {BOX: 'address: "fe80::1%eth0"\n'}, "REC3011", f"{BOX}:1:10", "zone"),
    ("dot at the end", {BOX: "address: spark-1.example.net.\n"}, "REC3011", f"{BOX}:1:10", "write spark-1.example.net"),
    ("look-alike letters", {BOX: "address: spаrk-1.example.net\n"}, "REC3011", f"{BOX}:1:10", "xn--"),
    ("jump host that ends with a dot", {BOX: HOST + "ssh: {jump: me@jump.example.net.}\n"}, "REC3011", f"{BOX}:3:13", "dot"),
    ("command as one text", {WRITING: service("args: --max-model-len 32768")}, "REC3012", f"{WRITING}:6:11", 'use a list: [--max-model-len, "32768"]'),
    ("page cache of a discrete host", {BOX: HOST + "memory: {kind: discrete, drop_caches: true}\n"}, "REC2045", f"{BOX}:3:39", "remove it"),
    # scope
    ("root's own manager", {BOX: HOST + "scope: user\nssh: {user: root}\n"}, "REC2110", f"{BOX}:3:8", "another user"),
    ("root's own manager by default", {TOP: FLEET + "defaults: {ssh: {user: root}}\n", BOX: HOST + "scope: user\n"}, "REC2110", f"{BOX}:3:8", "another user"),
    ("page cache without root", {BOX: HOST + "scope: user\nmemory: {kind: unified, drop_caches: true}\n"}, "REC2110", f"{BOX}:4:38", "only root"),
    ("firewall without root", {WRITING: service("port: 80\ndrain: {admission: firewall}"), BOX: HOST + "scope: user\n"}, "REC2110", f"{BOX}:3:8", "admission: auto"),
    ("firewall of the fleet without root", {TOP: FLEET + "defaults: {drain: {admission: firewall}}\n", BOX: HOST + "scope: user\n"}, "REC2110", f"{BOX}:3:8", "coven 'writing'"),
    ("firewall of a resident without root", {BOX: HOST + f"scope: user\nresidents:\n  one:\n    {SERVICE}    port: 80\n    drain: {{admission: firewall}}\n"}, "REC2110", f"{BOX}:3:8", "a resident"),
    ("scope that is none", {BOX: HOST + "scope: session\n"}, "REC2034", f"{BOX}:3:8", "system, user"),
    # runtimes
    ("path for ollama", {WRITING: service("model: {path: /srv/models/x}", runtime="ollama")}, "REC2040", f"{WRITING}:6:5", "hub: org/name"),
    ("model for comfyui", {WRITING: service("model: {path: /srv/models/x}", runtime="comfyui")}, "REC2040", f"{WRITING}:6:5", "volumes"),
    ("no model for ollama", {WRITING: service("port: 80", runtime="ollama")}, "REC2002", f"{WRITING}:2:3", "hub: org/name"),
    ("ollama's own variable", {WRITING: service("env: {OLLAMA_HOST: x}", runtime="ollama")}, "REC2027", f"{WRITING}:6:11", "port:"),
    ("figures that stand still", {WRITING: service("args: [--disable-log-stats]", runtime="vllm")}, "REC2041", f"{WRITING}:6:12", "remove it"),
    ("stop shorter than promised", {WRITING: service('args: [--shutdown-timeout, "120"]', runtime="vllm")}, "REC2042", f"{WRITING}:2:3", "timeout: 2m10s"),
    ("stop shorter than SGLang needs", {WRITING: service("stop: {timeout: 30s}", runtime="sglang")}, "REC2042", f"{WRITING}:6:21", "timeout: 2m"),
    ("tag of a hub repository", {WRITING: service('model: {hub: "org/name:q4"}', runtime="sglang")}, "REC2025", f"{WRITING}:6:18", "org/name"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "code", "place", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_bad_meaning_is_refused_with_its_code_place_and_hint(
    tmp_path: Path, files: dict[str, str], code: str, place: str, words: str
) -> None:
    found = problems(write(tmp_path, files))

    told = [problem for problem in found if problem.code == code and str(problem.where) == place]
    assert told, [str(problem) for problem in found]
    assert words in f"{told[0].detail} {told[0].fix}"
    assert told[0].fix


# Values that look dangerous and are legal: the render floor encodes them.
LEGAL = [
    r'args: ["C:\\", "100%", "%h", "$HOME", "${X}", "$$", ";", "a b", "it' 's", "#x", " x ", "[Service]"]',
    'env: {A: "ExecStartPre=/bin/x", B: "`x`", C: "a;b", D: "\\"", E: "trailing\\\\"}',
    'volumes: ["/srv/a:/x", "/srv/a/b:/y:ro", "/data:/z"]',
    "command: [serve]\nargs: [--port, '1']",
    "drain: {timeout: 24h, on_timeout: force}\nstop: {timeout: 1h}",
]


@pytest.mark.parametrize("extra", LEGAL)
def test_a_value_that_only_looks_dangerous_is_legal(tmp_path: Path, extra: str) -> None:
    assert problems(write(tmp_path, {WRITING: service(extra)})) == ()


@pytest.mark.parametrize(
    "address",
    ["192.0.2.7", "2001:db8::1", "spark-1", "spark-1.example.net", "xn--spark-9ta.example.net", "10.host.example.net"],
)
def test_an_address_that_means_one_machine_is_legal(tmp_path: Path, address: str) -> None:
    assert problems(write(tmp_path, {BOX: f'address: "{address}"\nhost_key: {KEY}\n'})) == ()


@pytest.mark.parametrize(
    "image",
    [f"localhost/server@{DIGEST}", f"registry.example.net:5000/a/b/c_d@{DIGEST}", f"docker.io/a/b:1.2@{DIGEST}"],
)
def test_a_pinned_image_is_legal(tmp_path: Path, image: str) -> None:
    assert problems(write(tmp_path, {WRITING: service(image=image)})) == ()


def test_the_policy_can_allow_tags_mounts_and_variables(tmp_path: Path) -> None:
    policy = "policy: {require_digest: false, allow_mounts: [/home], allow_env: [NVIDIA_DRIVER_CAPABILITIES]}\n"
    extra = 'volumes: ["/home/me:/x"]\nenv: {NVIDIA_DRIVER_CAPABILITIES: all}'
    coven = service(extra, image="docker.io/a/b:1")

    assert problems(write(tmp_path, {TOP: FLEET + policy, WRITING: coven})) == ()


def test_covens_of_one_slot_may_have_a_port_in_common_also_where_a_window_does_not_name_the_slot(
    tmp_path: Path,
) -> None:
    slots = 'address: 192.0.2.1\nslots: {l: {gpus: ["0"], coven: writing}}\n'
    window = 'schedule:\n  - {coven: b, from: "02:00", to: "04:00"}\n'
    covens = {WRITING: service("port: 80"), "desired/covens/b.yaml": service("port: 80")}

    assert problems(write(tmp_path, {**covens, BOX: slots + window})) == ()


def test_a_broken_coven_file_is_not_an_unknown_coven(tmp_path: Path) -> None:
    assert lines(write(tmp_path, {WRITING: "services: {}\n"})) == [f"REC2006 {WRITING}:1:11"]


def test_the_same_address_behind_other_ports_or_jump_hosts_is_another_machine(tmp_path: Path) -> None:
    others = {
        "desired/hosts/a.yaml": "address: 192.0.2.1\nssh: {port: 2222}\n",
        "desired/hosts/b.yaml": "address: 192.0.2.1\nssh: {jump: jump.example.net}\n",
    }

    assert problems(write(tmp_path, others)) == ()


def test_a_cycle_as_long_as_a_file_allows_is_found(tmp_path: Path) -> None:
    services = "".join(f"  s{n}:\n    {SERVICE}    after: [s{(n + 1) % 600}]\n" for n in range(600))

    found = problems(write(tmp_path, {WRITING: "services:\n" + services}))

    assert [each.code for each in found] == ["REC2018"]
