"""A model server for the lab: takes GPU memory, dies when there is not enough, and speaks real runtimes' endpoints.

    python3 -m model_server --runtime vllm     --model /srv/models/m --port 8000    as vllm-openai
    python3 -m model_server --runtime llamacpp -m /srv/models/m      --port 8080    as llama-server
    python3 -m model_server --runtime sglang   --model-path /srv/models/m --port 30000
    python3 -m model_server --runtime tgi      --model-id /srv/models/m   --port 8000
    python3 -m model_server --runtime comfyui  --port 8188
    OLLAMA_HOST=0.0.0.0:11434 python3 -m model_server --runtime ollama serve
    python3 -m model_server --runtime generic  --port 9000    /healthz /queue /metrics /generate /pause /resume

Flags it does not know are ignored, as the real programs know hundreds. Environment: LAB_GPU_BYTES (memory to take,
spread over the GPUs the container was given), LAB_LOAD_S (seconds to load), LAB_TOKEN_MS (milliseconds per token, 20
when absent: a request for 500 tokens is 10 s in flight), LAB_FAULT (`name` or `name:seconds`, comma separated).
/run/lab-gpu/faults/PORT.json, `{"name": seconds-or-true}`, is read on every request and adds faults to a live server.

faults: crash-at-start, crash-after:S, crash-after-ready:S, never-healthy, health-503, hang-metrics, metrics-missing,
wrong-model, stuck-busy (one request that never ends), fail-completions, pause-lies (200, and it goes on),
sigterm-ignore, sigterm-slow:S.

Must not: import anything but the standard library, invent an endpoint that the runtime it plays does not have.
"""
