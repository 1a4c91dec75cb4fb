import type { NodeFacts } from "../../../domain/preflight/facts.js";
import type { Load } from "../../../domain/preflight/needs-of.js";
import { modelsOf, type ModelRef, type ServiceSpec } from "../../../domain/release.js";
import type { Finding, ModelStore, StoredModel } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { imageRoom, type ImageRoom } from "./image-room.js";
import { hasImage, type ImageSource } from "./images.js";
import { missingModels, type MissingModel } from "./model-volumes.js";
import type { NodeFetching } from "./node-fetching.js";

export interface DeliveryParts {
  commands: HostCommands;
  models: Pick<ModelStore, "find">;
  imageOf: (spec: ServiceSpec) => ImageSource;
  companions: readonly ImageSource[];
  fetching: Pick<NodeFetching, "sourceOf"> | null;
}

/** What is still to be brought to a host, and the room that it needs there. */
export interface Deliveries extends Load {
  findings: readonly Finding[];
}

/** What specs need that a host does not have yet. What a deploy would fetch or send is no obstacle, but for its room. */
export async function deliveriesOf(
  parts: DeliveryParts,
  specs: readonly ServiceSpec[],
  { system }: NodeFacts,
): Promise<Deliveries> {
  const { commands, imageOf, companions } = parts;
  const images = await imagesToBring(commands, [...specs.map(imageOf), ...companions], system);
  const models = await modelsFor(parts, specs);
  const { bytes: imageBytes, sent: sentBytes } = images;
  return { imageBytes, sentBytes, modelBytes: models.bytes, findings: [...images.findings, ...models.findings] };
}

interface Part {
  bytes: number | null;
  findings: readonly Finding[];
}

interface Images extends Part {
  /** Most that lies in the data directory at once. */
  sent: number | null;
}

/** The images that a host lacks, each once: those of the services and of what stands beside them. */
export async function imagesToBring(
  commands: HostCommands,
  images: readonly ImageSource[],
  system: NodeFacts["system"],
): Promise<Images> {
  const machine = system.seen ? system.value.architecture : "";
  const wanted = new Map(images.map((image) => [image.reference, image]));
  const rooms: (ImageRoom | null)[] = [];
  let unknownSent = false;
  const findings: Finding[] = [];
  for (const image of wanted.values()) {
    const { reference, local } = image;
    if (await hasImage(commands, reference)) {
      findings.push({ level: "ok", code: "code-present", what: `${reference} is on ${commands.node}` });
      continue;
    }
    const room = await imageRoom(commands, image, machine);
    rooms.push(room);
    unknownSent ||= room === null && local !== null;
    const how = local === null ? "pulled from its registry" : "sent from here";
    findings.push({ level: "ok", code: "code-deliverable", what: `${reference} will be ${how} to ${commands.node}` });
  }
  const known = rooms.filter((room) => room !== null);
  // One after the other: what one needed on its way is gone when the next comes.
  const bytes = sumOf(rooms.map((room) => room?.kept ?? null));
  const passing = Math.max(0, ...known.map((room) => room.passing));
  const sent = unknownSent ? null : Math.max(0, ...known.map((room) => room.sent));
  return { bytes: bytes === null ? null : bytes + passing, sent, findings };
}

/** What was downloaded lies beside the graph that is built of it. */
const roomToFetch = 2;
const roomOf = (stored: Pick<StoredModel, "bytes"> | null, fetched: boolean): number =>
  (stored?.bytes ?? 0) * (fetched ? roomToFetch : 1);

/** Room for those models that a host lacks, bytes. */
export async function modelRoom(
  { commands, fetching }: Pick<DeliveryParts, "commands" | "fetching">,
  models: readonly StoredModel[],
): Promise<number> {
  const lacks = await missingModels(
    commands,
    models.map(({ ref }) => ref),
  );
  const missing = new Set(lacks.map(({ ref }) => ref.manifest));
  const brought = new Map(models.filter(({ ref }) => missing.has(ref.manifest)).map((model) => [model.ref.manifest, model]));
  const rooms = [...brought.values()].map((model) => roomOf(model, (fetching?.sourceOf(model.ref) ?? null) !== null));
  return rooms.reduce((sum, room) => sum + room, 0);
}

/** Models that are on the host whole, that it fetches, that are sent from here, and that nobody has. */
async function modelsFor({ commands, models, fetching }: DeliveryParts, specs: readonly ServiceSpec[]): Promise<Part> {
  const wanted = new Map<string, MissingModel>();
  const findings: Finding[] = [];
  for (const spec of specs) {
    const lacks = await missingModels(commands, modelsOf(spec));
    if (spec.model !== null && lacks.length === 0)
      findings.push({ level: "ok", code: "model-present", what: `${spec.model.name} is on ${commands.node}` });
    for (const each of lacks) wanted.set(each.ref.manifest, each);
  }
  let bytes = 0;
  for (const { ref, changed } of wanted.values()) {
    const stored = await models.find(ref);
    const fetched = (fetching?.sourceOf(ref) ?? null) !== null;
    bytes += roomOf(stored, fetched);
    const what = fetched ? `${ref.name} will be fetched by ${commands.node}` : `${ref.name} will be sent to ${commands.node}`;
    if (fetched || stored !== null) findings.push({ level: "ok", code: "model-deliverable", what });
    else findings.push(changed.length > 0 ? modelDamaged(ref, changed, commands.node) : modelMissing(ref, commands.node));
  }
  return { bytes, findings };
}

const modelMissing = ({ name }: ModelRef, node: string): Finding => ({
  level: "blocker",
  code: "model-missing",
  what: `the model ${name} is neither on ${node} nor here`,
  nextSteps: ["gpuctl models fetch"],
});

const modelDamaged = ({ name }: ModelRef, files: readonly string[], node: string): Finding => ({
  level: "blocker",
  code: "model-damaged",
  what: `${files.join(", ")} of the model ${name} changed on ${node}, and the model is not here`,
  nextSteps: ["gpuctl models fetch"],
});

/** Nobody knows the sum of which one part is not known. */
export const sumOf = (sizes: readonly (number | null)[]): number | null =>
  sizes.reduce((sum, size) => (sum === null || size === null ? null : sum + size), 0);
